import numpy as np
import pytest

from distrain.datasets import DictDataset
from distrain.errors import DatasetError

X = np.arange(6.0).reshape(3, 2)
T = np.array([5, 6, 7])


def test_examples():
    dataset = DictDataset(t=T, c="abc")
    assert len(dataset) == 3
    assert dataset[1] == {"t": 6, "c": "b"}
    assert dataset[-1] == {"t": 7, "c": "c"}
    assert dataset[1:] == [{"t": 6, "c": "b"}, {"t": 7, "c": "c"}]
    assert DictDataset(t=T)[[2, 0]] == [{"t": 7}, {"t": 5}]
    assert len(list(dataset)) == 3


def test_columns():
    columns = DictDataset(x=X, t=T).columns_at(np.array([2, 0]))
    assert list(columns) == ["x", "t"]
    np.testing.assert_array_equal(columns["x"], X[[2, 0]])
    assert DictDataset(x=X, c="abc").columns_at(np.array([0])) is None


def test_lengths():
    with pytest.raises(DatasetError, match="'x': 3, 't': 2"):
        DictDataset(x=X, t=T[:2])
    with pytest.raises(DatasetError, match="at least one"):
        DictDataset()
