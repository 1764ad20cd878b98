import numpy as np
import pytest

import distrain.functions as F
from distrain import errors, gradient_check
from distrain.autograd import Variable
from tests.functions.cases import check_empty, check_function, draw


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def direct(c_prev, x):
    """Unit by unit, the gates as they lie in Chainer's weights: a, i, f, o of unit 0, then of unit 1 …"""
    c, h = c_prev.copy(), np.zeros((len(x), c_prev.shape[1], *x.shape[2:]))
    for unit in range(c_prev.shape[1]):
        a, i, f, o = [x[:, 4 * unit + k] for k in range(4)]
        c[: len(x), unit] = np.tanh(a) * sigmoid(i) + c_prev[: len(x), unit] * sigmoid(f)
        h[:, unit] = np.tanh(c[: len(x), unit]) * sigmoid(o)
    return c, h


@pytest.mark.parametrize(
    ("c_shape", "x_shape"),
    [((4, 3), (4, 12)), ((5, 2), (3, 8)), ((3, 2, 2), (2, 8, 2)), ((2, 3), (0, 12))],
)
def test_table(c_shape, x_shape):
    check_function(F.lstm, draw(c_shape, x_shape), direct)


@pytest.mark.parametrize("output", [0, 1])
def test_gradient_through_one_output_only(output):
    c, x, gy, gc, gx = draw((4, 2), (3, 8), (4 - output, 2), (4, 2), (3, 8))
    gradient_check.check_backward(lambda c, x: F.lstm(c, x)[output], [c, x], gy, dtype=np.float64)
    gradient_check.check_double_backward(lambda c, x: F.lstm(c, x)[output], [c, x], gy, [gc, gx], dtype=np.float64)


def test_samples_beyond_x_keep_their_state():
    c, x = draw((5, 2), (3, 8))
    np.testing.assert_array_equal(F.lstm(c, x)[0].array[3:], c[3:])


def test_large_inputs_do_not_overflow():
    c, h = F.lstm(np.zeros((1, 2), np.float32), np.full((1, 8), -1e4, np.float32))
    assert np.isfinite(c.array).all()
    assert np.isfinite(h.array).all()


def test_no_samples():
    check_empty(F.lstm, (0, 3), (0, 12))


@pytest.mark.parametrize(
    ("c_shape", "x_shape", "text"),
    [
        ((4, 3), (4, 11), r"\(12,\).*Actual: shape \(4, 11\)"),
        ((4, 3), (5, 12), r"at most as many samples as c_prev, 4.*Actual: shape \(5, 12\)"),
        ((4,), (4,), "units"),
    ],
)
def test_refuses(c_shape, x_shape, text):
    with pytest.raises(errors.InvalidType, match="(?s)in: lstm.*Argument: x.*" + text):
        F.lstm(np.zeros(c_shape), Variable(np.zeros(x_shape)))


def test_refuses_two_precisions():
    with pytest.raises(errors.InvalidType, match=r"(?s)in: lstm.*dtype of c_prev, float32.*float64"):
        F.lstm(np.zeros((2, 1), np.float32), np.zeros((2, 4)))
