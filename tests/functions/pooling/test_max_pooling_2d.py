import numpy as np
import pytest

import distrain.functions as F
from distrain import errors
from distrain.autograd import Variable
from tests.functions.cases import check_empty, check_function, draw

# size, ksize, stride, pad, cover_all
CASES = [
    ((4, 6), 2, None, 0, True),
    ((5, 4), 2, None, 0, True),
    ((5, 4), 2, None, 0, False),
    ((7, 6), 3, 2, 1, True),
    ((6, 7), (2, 3), (1, 2), (1, 0), False),
    ((5, 5), 2, 3, 0, False),
    ((5, 5), 1, 2, 0, True),
    ((4, 4), 1, 1, 0, True),
    ((6, 5), (3, 1), 1, (1, 0), True),
]


def two(x):
    return (x, x) if isinstance(x, int) else x


def windows(x, ksize, stride, pad, cover_all):
    """Every window of every channel, (i, j, what is inside of the image)."""
    (kh, kw), (ph, pw) = two(ksize), two(pad)
    sh, sw = two(ksize if stride is None else stride)
    h, w = x.shape[2:]
    extra = (sh - 1, sw - 1) if cover_all else (0, 0)
    for i in range((h + 2 * ph - kh + extra[0]) // sh + 1):
        for j in range((w + 2 * pw - kw + extra[1]) // sw + 1):
            top, left = i * sh - ph, j * sw - pw
            yield i, j, x[:, :, max(top, 0) : top + kh, max(left, 0) : left + kw]


def direct(x, *how):
    seen = list(windows(x, *how))
    y = np.zeros((*x.shape[:2], seen[-1][0] + 1, seen[-1][1] + 1), x.dtype)
    for i, j, inside in seen:
        y[:, :, i, j] = inside.max(axis=(2, 3))
    return y


@pytest.mark.parametrize("how", CASES)
def test_table(how):
    (x,) = draw((2, 3, *how[0]))
    check_function(lambda x: F.max_pooling_2d(x, *how[1:]), [x], lambda x: direct(x, *how[1:]))


def test_the_first_of_equals_gets_the_gradient():
    x = Variable(np.zeros((1, 1, 4, 4), np.float32))
    F.max_pooling_2d(x, 2).sum().backward()
    np.testing.assert_array_equal(x.grad[0, 0], [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4])
    x = Variable(np.array([[[[0, 5], [5, 0]]]], np.float32))
    F.max_pooling_2d(x, 2).sum().backward()
    np.testing.assert_array_equal(x.grad[0, 0], [[0, 1], [0, 0]])


def test_overlapping_windows_add_up():
    x = Variable(np.array([[[[0, 0, 0], [0, 9, 0], [0, 0, 0]]]], np.float32))
    F.max_pooling_2d(x, 2, 1).sum().backward()
    assert x.grad[0, 0, 1, 1] == 4
    assert x.grad.sum() == 4


def test_padding_never_wins():
    y = F.max_pooling_2d(np.full((1, 1, 2, 2), -5.0), 2, 2, 1)
    np.testing.assert_array_equal(y.array, np.full((1, 1, 2, 2), -5.0))


def test_nan_comes_through():
    x = np.zeros((1, 1, 2, 2))
    x[0, 0, 0, 1] = np.nan
    assert np.isnan(F.max_pooling_2d(x, 2).array).all()


def test_no_samples():
    check_empty(lambda x: F.max_pooling_2d(x, 2), (0, 3, 4, 4))


@pytest.mark.parametrize(
    ("shape", "how", "text"),
    [
        ((1, 1, 2), (2,), "x.*4 axes.*3 axes"),
        ((1, 1, 2, 2), (3, 1, 0, False), r"x.*a window of \(3, 3\).*shape \(1, 1, 2, 2\)"),
        ((1, 1, 4, 4), (2, 0), r"ksize.*stride=\(0, 0\)"),
        ((1, 1, 4, 4), (2, 2, 2), r"pad.*less than ksize.*pad=\(2, 2\)"),
    ],
)
def test_refuses(shape, how, text):
    with pytest.raises(errors.InvalidType, match="(?s)max_pooling_2d.*Argument: " + text):
        F.max_pooling_2d(np.zeros(shape), *how)
