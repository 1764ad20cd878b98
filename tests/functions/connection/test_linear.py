import numpy as np
import pytest

import distrain.functions as F
from distrain import errors
from distrain.autograd import Parameter, Variable
from tests.functions.cases import check_empty, check_function, draw


def direct(x, W, b=None, n_batch_axes=1):
    rows = x.reshape(-1, W.shape[1])
    y = np.array([[sum(row[k] * w[k] for k in range(len(w))) for w in W] for row in rows])
    y = y.reshape(*x.shape[:n_batch_axes], len(W))
    return y if b is None else y + b


@pytest.mark.parametrize(
    ("shape", "n_batch_axes", "size"),
    [((5, 3), 1, 3), ((6, 1), 1, 1), ((4, 2, 3), 1, 6), ((2, 3, 4), 2, 4), ((2, 3, 2, 2), 2, 4)],
)
def test_table(shape, n_batch_axes, size):
    x, W, b = draw(shape, (4, size), (4,))
    check_function(
        lambda x, W, b: F.linear(x, W, b, n_batch_axes), [x, W, b], lambda x, W, b: direct(x, W, b, n_batch_axes)
    )


def test_without_bias():
    check_function(F.linear, draw((5, 3), (2, 3)), direct)


def test_transposed_inputs():
    x, W = draw((3, 5), (3, 4))
    check_function(lambda x, W: F.linear(x.T, W.T), [x, W], lambda x, W: x.T @ W)


def test_no_samples():
    check_empty(F.linear, (0, 3), (2, 3), (2,))


def test_writes_into_the_flat_gradient():
    x, W, b = [a.astype(np.float32) for a in draw((5, 3), (4, 3), (4,))]
    W, b = Parameter(W), Parameter(b)
    places = np.full(12, np.nan, np.float32).reshape(4, 3), np.full(4, np.nan, np.float32)
    for parameter, place in zip((W, b), places, strict=True):
        parameter.bind(np.empty_like(place), place)
    y = F.linear(x, W, b)
    y.grad = np.ones_like(y.array)
    y.creator._writing = True
    gW, gb = y.creator.backward((1, 2), (y.grad,))
    assert gW is places[0]
    assert gb is places[1]
    np.testing.assert_allclose(places[0], np.tile(x.sum(0), (4, 1)), rtol=1e-6)
    y.backward()
    F.linear(x, W, b).sum().backward()  # the second gradient is added, not written over the first
    np.testing.assert_allclose(W.grad, 2 * np.tile(x.sum(0), (4, 1)), rtol=1e-6)
    np.testing.assert_allclose(b.grad, [10] * 4)


def test_gradients_only_where_asked():
    x, W = draw((5, 3), (4, 3))
    y = F.linear(x, Parameter(W))
    y.grad = np.ones_like(y.array)
    (gW,) = y.creator.gradients((1,), (y.grad,), double=False, accumulate=False)
    assert gW.shape == W.shape


def test_two_precisions():
    x, W = draw((5, 3), (4, 3))
    x, W = Variable(x), Variable(W.astype(np.float32))
    y = F.linear(x, W)
    y.grad = np.ones_like(y.array)
    y.backward(enable_double_backprop=True)
    assert (y.dtype, x.grad.dtype, W.grad.dtype) == (np.float64, np.float64, np.float32)


def test_half_precision_sums_wide():
    x, W, b = np.zeros((5000, 1), np.float16), np.zeros((1, 1), np.float16), Variable(np.zeros(1, np.float16))
    y = F.linear(x, W, b)
    y.grad = np.ones_like(y.array)
    y.backward()
    assert b.grad == 5000  # adding ones in float16 ends at 2048


@pytest.mark.parametrize(
    ("x", "W", "b", "text"),
    [
        ((5, 3), (4, 2), (4,), "in: linear.*Argument: x.*Expect: 2 values a sample.*Actual: 3 "),
        ((5, 3), (4, 3), (3,), "in: linear.*Argument: b.*Expect: shape .4,.*Actual: shape .3,"),
        ((5, 3), (4, 3, 1), (4,), "in: linear.*Argument: W.*Expect: 2 axes.*Actual: 3 axes"),
        ((5,), (4, 5), (4,), "in: linear.*Argument: n_batch_axes"),
    ],
)
def test_refuses(x, W, b, text):
    with pytest.raises(errors.InvalidType, match="(?s)" + text):
        F.linear(np.zeros(x), np.zeros(W), np.zeros(b))


def test_refuses_integers():
    with pytest.raises(errors.InvalidType, match=r"(?s)Argument: x.*floating point.*int64"):
        F.linear(np.zeros((2, 3), np.int64), np.zeros((4, 3)))
