from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import FunctionNode, Parameter, Variable
from distrain.errors import ArgumentError
from distrain.gradient_check import check_backward, check_double_backward, numerical_grad

X = np.array([[0.3, -0.7], [1.1, 0.4]])
GY = np.array([[1.0, 2.0], [-0.5, 0.7]])


class Cube(FunctionNode):
    """x ** 3 whose first and second derivatives are `first` and `second` times what they should be."""

    def __init__(self, first=1.0, second=1.0):
        self.first, self.second = first, second

    def forward(self, inputs):
        self.retain_inputs((0,))
        return (inputs[0] ** 3,)

    def backward(self, target_input_indexes, grad_outputs):
        (x,) = self.get_retained_inputs()
        g = 3 * self.first * x * x
        if self.second != 1.0:
            g = g * self.second - (self.second - 1) * g.array
        return (g * grad_outputs[0],)


def test_numerical_grad():
    x, w = X.copy(), np.array([2.0, -1.0])
    gx, gw = numerical_grad(lambda: (x**2 * w, w * 3), (x, w), (GY, None))
    np.testing.assert_allclose(gx, 2 * X * w * GY, rtol=1e-6)
    np.testing.assert_allclose(gw, (X**2 * GY).sum(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(x, X)
    (g,) = numerical_grad(lambda: (x.sum(),), (x,), (np.float64(2),))
    np.testing.assert_allclose(g, np.full((2, 2), 2.0))


@pytest.mark.parametrize("dtype", [None, np.float32, np.float64])
def test_right_gradients_pass(dtype):
    loose = {"eps": 1e-2, "atol": 1e-2, "rtol": 1e-2} if dtype == np.float32 else {}
    check_backward(lambda x: Cube().apply((x,))[0], X, GY, dtype=dtype, **loose)
    check_double_backward(lambda x: Cube().apply((x,))[0], X, GY, GY, dtype=dtype, **loose)


@pytest.mark.parametrize("factor", [0.99, 1.01, 0.0, -1.0, np.nan])
def test_a_wrong_gradient_is_found_and_both_numbers_are_said(factor):
    with pytest.raises(AssertionError, match=r"(?s)analytic: [-.\dnan]+\nnumeric:  [-.\d]+\n.*eps=0.001"):
        check_backward(lambda x: Cube(first=factor).apply((x,))[0], X, GY)


@pytest.mark.parametrize("factor", [0.9, 1.1, 0.0, -1.0])
def test_a_wrong_second_derivative_is_found(factor):
    func = lambda x: Cube(second=factor).apply((x,))[0]  # noqa: E731
    check_backward(func, X, GY)
    with pytest.raises(AssertionError, match=r"(?s)analytic: .*numeric: "):
        check_double_backward(func, X, GY, GY)


def test_a_missing_gradient_is_found():
    with pytest.raises(AssertionError, match="analytic: 0"):
        check_backward(lambda x: Variable(x.array * 2), X, GY)


def test_a_gradient_of_the_wrong_dtype_is_found():
    class Widens(FunctionNode):
        def forward(self, inputs):
            return (inputs[0] * 2,)

        def backward(self, target_input_indexes, grad_outputs):
            return (F.cast(grad_outputs[0], np.float64) * 2,)

    with pytest.raises(AssertionError, match="float32 has shape .*float64"):
        check_backward(lambda x: Widens().apply((x,))[0], X.astype(np.float32), GY.astype(np.float32), atol=1e-2)


def test_two_backward_passes_that_disagree_are_found():
    class Two(Cube):
        def gradients(self, targets, gys, double, accumulate):
            gxs = super().gradients(targets, gys, double, accumulate)
            return gxs if double else [gx * 2 for gx in gxs]

    with pytest.raises(AssertionError, match="disagree"):
        check_double_backward(lambda x: Two().apply((x,))[0], X, GY, GY)


def test_parameters_are_checked_and_put_back():
    w = Parameter(np.array([2.0, 3.0], np.float32))
    before = w.array
    check_backward(lambda x: x * w * w, X, GY, w, dtype=np.float64)
    check_double_backward(lambda x: x * w * w, X, GY, GY, [w], [np.ones(2)], dtype=np.float64)
    assert w.array is before
    assert w.dtype == np.float32
    np.testing.assert_array_equal(before, [2, 3])
    with pytest.raises(AssertionError, match="analytic"):
        check_backward(lambda x: x * w.array * Cube(first=2.0).apply((w,))[0], X, GY, w, dtype=np.float64)


def test_several_inputs_and_outputs():
    t = np.array([1, 0])
    func = lambda a, b, t: (a * b, F.sum(a), F.select_item(b, t))  # noqa: E731
    gys = [GY, np.array(2.0), None]
    check_backward(func, [X, X + 1, t], gys)
    check_backward(func, [X, X + 1, t], gys, no_grads=[False, True, True])
    check_double_backward(lambda a, b: (a * b, F.sum(a)), [X, X + 1], gys[:2], [GY, X])


def test_the_gradient_of_a_scalar_may_be_left_out():
    check_backward(lambda x: F.sum(x * x), X, None)
    with pytest.raises(ArgumentError, match=r"no scalar: it has shape \(2, 2\)"):
        check_backward(lambda x: x * x, X, None)


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="y_grad has 2 entries for 1 outputs"):
        check_backward(lambda x: x * x, X, [GY, GY])
    with pytest.raises(ArgumentError, match=r"y_grad has shape \(2,\) for an output of shape \(2, 2\)"):
        check_backward(lambda x: x * x, X, np.ones(2))
    with pytest.raises(ArgumentError, match="nothing to check"):
        check_backward(lambda x: x * x, X, GY, no_grads=[True])
    with pytest.raises(ArgumentError, match="no_grads has 2 entries for 1 inputs"):
        check_backward(lambda x: x * x, X, GY, no_grads=[True, True])
    with pytest.raises(ArgumentError, match="have 2 entries for 1 inputs and 0 parameters"):
        check_double_backward(lambda x: x * x, X, GY, [GY, GY])
