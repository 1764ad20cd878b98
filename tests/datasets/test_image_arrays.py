import numpy as np
import pytest

from distrain.datasets.image_arrays import check_ndim, scaled
from distrain.errors import ArgumentError


def test_scaled_copies():
    images = np.array([[0, 255]], np.uint8)
    x = scaled(images, 1 / 255, None)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, [[0, 1]])
    assert images[0, 1] == 255


def test_check_ndim():
    check_ndim(3, (1, 3))
    with pytest.raises(ArgumentError, match="one of 1, 3, not 2"):
        check_ndim(2, (1, 3))
