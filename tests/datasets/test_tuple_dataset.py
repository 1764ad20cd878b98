import numpy as np
import pytest

from distrain.datasets import TupleDataset
from distrain.errors import DatasetError

X = np.arange(6.0).reshape(3, 2)
T = np.array([5, 6, 7])


def test_examples():
    dataset = TupleDataset(X, T, "abc")
    assert len(dataset) == 3
    x, t, c = dataset[1]
    assert (list(x), t, c) == ([2, 3], 6, "b")
    assert dataset[-1][1:] == (7, "c")
    assert [t for _, t in TupleDataset(X, T)[1:]] == [6, 7]
    assert [t for _, t in TupleDataset(X, T)[[2, 0]]] == [7, 5]
    assert [t for _, t in TupleDataset(X, T)[np.array([2, 0])]] == [7, 5]
    assert len(list(dataset)) == 3


def test_outside():
    with pytest.raises(IndexError):
        TupleDataset(X, T)[3]


def test_columns():
    x, t = TupleDataset(X, T).columns_at(np.array([2, 0]))
    np.testing.assert_array_equal(x, X[[2, 0]])
    np.testing.assert_array_equal(t, [7, 5])


@pytest.mark.parametrize("other", ["abc", [1, 2, 3], np.array([None, 1, 2])])
def test_no_columns(other):
    assert TupleDataset(X, other).columns_at(np.array([0])) is None


def test_lengths():
    with pytest.raises(DatasetError, match=r"\[3, 2\]"):
        TupleDataset(X, T[:2])
    with pytest.raises(DatasetError, match="at least one"):
        TupleDataset()
