import numpy as np
import pytest

from distrain.dataset import Batch
from distrain.minibatch import Share

X = np.arange(12, dtype=np.float32).reshape(4, 3)
T = np.arange(4, dtype=np.int32)


@pytest.mark.parametrize(
    ("batch", "examples"),
    [
        (Batch(columns=(X, T)), [(X[i], T[i]) for i in range(4)]),
        (Batch(columns=(X,)), [(X[i],) for i in range(4)]),
        (Batch(columns={"x": X, "t": T}), [{"x": X[i], "t": T[i]} for i in range(4)]),
        (Batch(columns=T), list(T)),
        (Batch([(X[i], T[i]) for i in range(4)]), [(X[i], T[i]) for i in range(4)]),
        (Batch(["a", "b", "c", "d"]), ["a", "b", "c", "d"]),
    ],
    ids=["tuple", "single", "dict", "array", "examples", "strings"],
)
class TestLikeAList:
    def test_equal(self, batch, examples):
        assert batch == examples
        assert batch == Batch(examples)
        assert batch != examples[:-1]
        assert batch != [*examples[:-1], examples[0]]

    def test_length_and_index(self, batch, examples):
        assert len(batch) == 4
        assert Batch([batch[2]]) == [examples[2]]
        assert Batch([batch[-1]]) == [examples[-1]]
        assert type(batch[1:3]) is list
        assert Batch(batch[1:3]) == examples[1:3]
        with pytest.raises(IndexError):
            batch[4]

    def test_iteration(self, batch, examples):
        assert batch == list(batch)
        assert Batch(list(reversed(batch))) == examples[::-1]


def test_empty():
    assert len(Batch()) == len(Batch([])) == len(Batch(columns=X[:0])) == len(Batch(columns=())) == 0
    assert list(Batch()) == []
    with pytest.raises(IndexError):
        Batch()[0]


def test_attributes():
    share = Share(3, 0, 2, 4)
    batch = Batch(columns=(X, T), share=share, indices=np.array([5, 6, 7, 8]))
    assert batch.share is share
    assert batch.columns[0] is X
    assert batch.indices[3] == 8


def test_not_hashable_and_not_equal_to_other_things():
    with pytest.raises(TypeError):
        hash(Batch())
    assert Batch([1]) != 1
    assert Batch([(1, 2)]) != [[1, 2]]
    assert Batch([X]) != [X[:2]]
