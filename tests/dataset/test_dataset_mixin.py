import numpy as np
import pytest

from distrain.dataset import DatasetMixin


class Squares(DatasetMixin):
    def __len__(self):
        return 5

    def get_example(self, i):
        assert type(i) is int
        assert 0 <= i < 5
        return i * i


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, 0),
        (4, 16),
        (-1, 16),
        (-5, 0),
        (np.int32(2), 4),
        (np.array(3), 9),
        (slice(1, 3), [1, 4]),
        (slice(None), [0, 1, 4, 9, 16]),
        (slice(None, None, -2), [16, 4, 0]),
        (slice(3, 100), [9, 16]),
        (slice(4, 2), []),
        ([3, -1], [9, 16]),
        ([], []),
        (np.array([2, 2, 0], np.uint8), [4, 4, 0]),
        (np.array([True, False, False, True, False]), [0, 9]),
    ],
)
def test_index(index, expected):
    assert Squares()[index] == expected


@pytest.mark.parametrize("index", [5, -6, [0, 5], np.array([True, False])])
def test_outside(index):
    with pytest.raises(IndexError, match="5 examples"):
        Squares()[index]


@pytest.mark.parametrize("index", [1.0, "1", [0.5], None])
def test_not_an_index(index):
    with pytest.raises(TypeError):
        Squares()[index]


def test_iteration_ends():
    assert list(Squares()) == [0, 1, 4, 9, 16]


def test_get_example_is_required():
    with pytest.raises(TypeError, match="get_example"):
        type("Empty", (DatasetMixin,), {"__len__": lambda self: 0})()
