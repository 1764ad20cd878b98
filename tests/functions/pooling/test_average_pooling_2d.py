import numpy as np
import pytest

import distrain.functions as F
from distrain import errors
from tests.functions.cases import check_empty, check_function, draw

# size, ksize, stride, pad
CASES = [
    ((4, 6), 2, None, 0),
    ((5, 4), 2, None, 0),
    ((7, 6), 3, 2, 1),
    ((6, 7), (2, 3), (1, 2), (1, 0)),
    ((5, 5), 2, 3, 0),
    ((4, 4), 4, 1, 0),
    ((3, 3), 1, 1, 0),
]


def direct(x, ksize, stride, pad):
    (kh, kw), (sh, sw), (ph, pw) = [(v, v) if isinstance(v, int) else v for v in (ksize, stride or ksize, pad)]
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y = np.zeros((*x.shape[:2], (x.shape[2] - kh) // sh + 1, (x.shape[3] - kw) // sw + 1))
    for i, j in np.ndindex(y.shape[2:]):
        y[:, :, i, j] = x[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw].mean(axis=(2, 3))
    return y


@pytest.mark.parametrize("how", CASES)
def test_table(how):
    (x,) = draw((2, 3, *how[0]))
    check_function(lambda x: F.average_pooling_2d(x, *how[1:]), [x], lambda x: direct(x, *how[1:]))


def test_no_samples():
    check_empty(lambda x: F.average_pooling_2d(x, 2), (0, 3, 4, 4))


def test_refuses_integers():
    with pytest.raises(errors.InvalidType, match=r"(?s)average_pooling_2d.*Argument: x.*floating point.*int64"):
        F.average_pooling_2d(np.zeros((1, 1, 4, 4), np.int64), 2)
