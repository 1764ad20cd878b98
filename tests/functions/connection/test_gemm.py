import numpy as np
import pytest

from distrain.functions.connection.gemm import gemm


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_product(dtype):
    a, b = np.arange(6, dtype=dtype).reshape(2, 3), np.arange(12, dtype=dtype).reshape(3, 4)
    y = gemm(a, b, np.dtype(dtype))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, a @ b)


def test_out_is_used_when_it_fits():
    a, b = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    out = np.zeros((2, 4), np.float32)
    assert gemm(a, b, np.dtype(np.float32), out) is out
    assert (out == 3).all()


@pytest.mark.parametrize("out", [np.zeros((2, 4)), np.zeros((4, 2), np.float32).T])
def test_out_is_left_alone_when_it_does_not_fit(out):
    y = gemm(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32), np.dtype(np.float32), out)
    assert y is not out
    assert (y == 3).all()
    assert (out == 0).all()


def test_half_precision_is_accumulated_wide():
    a = np.ones((1, 5000), np.float16)
    assert gemm(a, a.T, np.dtype(np.float16)) == 5000
