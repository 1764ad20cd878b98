import numpy as np

from distrain.datasets import TransformDataset


def test_transform():
    dataset = TransformDataset([1, 2, 3], lambda x: 10 * x)
    assert list(dataset) == [10, 20, 30]
    assert dataset[1:] == [20, 30]
    assert dataset[[-1, 0]] == [30, 10]


def test_is_never_read_past_the_transform():
    assert not hasattr(TransformDataset(np.zeros((3, 2)), lambda x: x + 1), "columns_at")
