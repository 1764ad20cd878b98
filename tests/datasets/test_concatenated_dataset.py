import numpy as np
import pytest

from distrain.datasets import ConcatenatedDataset, DictDataset, TupleDataset
from distrain.errors import DatasetError


def test_examples():
    dataset = ConcatenatedDataset([0, 1], [], (2,), np.array([3, 4]))
    assert list(dataset) == [0, 1, 2, 3, 4]
    assert dataset[1:4] == [1, 2, 3]
    assert dataset[[-1, 0]] == [4, 0]
    with pytest.raises(IndexError):
        dataset[5]


def test_columns_in_the_order_asked_for():
    x = np.arange(20.0).reshape(10, 2)
    dataset = ConcatenatedDataset(x[:3], x[:0], x[3:4], x[4:])
    for indices in ([9, 0, 3, 0, 4], [1], [5, 6], [3]):
        np.testing.assert_array_equal(dataset.columns_at(np.array(indices)), x[indices])


@pytest.mark.parametrize(
    "parts",
    [
        (np.zeros(3), [0.0]),
        (np.zeros(3), np.zeros(3, np.float32)),
        (np.zeros((3, 1)), np.zeros((3, 2))),
        (TupleDataset(np.zeros(3)), np.zeros(3)),
        (DictDataset(x=np.zeros(3)), DictDataset(y=np.zeros(3))),
        ([], []),
    ],
)
def test_parts_that_differ_have_no_columns(parts):
    assert ConcatenatedDataset(*parts).columns_at(np.array([0])) is None


def test_none():
    with pytest.raises(DatasetError, match="at least one"):
        ConcatenatedDataset()
