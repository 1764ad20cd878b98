import numpy as np
import pytest

from distrain.dataset.columns import columns_at, is_column


def test_arrays_are_datasets():
    x = np.arange(12.0).reshape(4, 3)
    taken = columns_at(x, np.array([2, 0]))
    np.testing.assert_array_equal(taken, x[[2, 0]])
    assert not np.shares_memory(taken, x)


def test_a_memmap_is_read_into_memory(tmp_path):
    x = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "x.npy", x)
    taken = columns_at(np.load(tmp_path / "x.npy", mmap_mode="r"), np.array([2, 0]))
    assert type(taken) is np.ndarray
    np.testing.assert_array_equal(taken, x[[2, 0]])


@pytest.mark.parametrize("x", [[1, 2], (1, 2), np.array(3.0), np.array([None, "a"]), np.ma.array([1, 2]), range(3)])
def test_what_is_no_column(x):
    assert not is_column(x)
    assert columns_at(x, np.array([0])) is None
