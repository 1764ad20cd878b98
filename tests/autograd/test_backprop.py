from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import FunctionNode, Parameter, Variable, force_backprop_mode, grad, no_backprop_mode
from distrain.errors import BackpropError

X = np.array([0.5, -1.5, 2.0])


class Counted(FunctionNode):
    """x * 2; counts how often its backward runs."""

    calls = 0

    def forward(self, inputs):
        return (inputs[0] * 2,)

    def backward(self, target_input_indexes, grad_outputs):
        type(self).calls += 1
        return (grad_outputs[0] * 2,)


@pytest.fixture
def counted():
    Counted.calls = 0
    return lambda x: Counted().apply((x,))[0]


@pytest.mark.parametrize("double", [False, True])
class TestBothPasses:
    def test_a_chain(self, double):
        x = Variable(X)
        F.sum(F.exp(x * 2) + 1).backward(enable_double_backprop=double)
        np.testing.assert_allclose(x.grad, 2 * np.exp(2 * X))

    def test_an_input_that_is_used_several_times(self, double):
        x = Variable(X)
        F.sum(x * x + x * 3 - x).backward(enable_double_backprop=double)
        np.testing.assert_allclose(x.grad, 2 * X + 2)

    def test_a_diamond_visits_each_function_once(self, double, counted):
        x = Variable(X)
        h = counted(x)
        for _ in range(10):
            h = h + h
        F.sum(h).backward(enable_double_backprop=double)
        assert Counted.calls == 1
        np.testing.assert_allclose(x.grad, np.full(3, 2048.0))

    def test_paths_of_different_lengths_meet(self, double, counted):
        x = Variable(X)
        h = counted(x)
        long = h
        for _ in range(5):
            long = F.tanh(long) * 2
        F.sum(h * long + h).backward(enable_double_backprop=double)
        assert Counted.calls == 1
        eps, slopes = 1e-6, []
        for sign in (1, -1):
            h = long = 2 * (X + sign * eps)
            for _ in range(5):
                long = np.tanh(long) * 2
            slopes.append(h * long + h)
        np.testing.assert_allclose(x.grad, (slopes[0] - slopes[1]) / (2 * eps), rtol=1e-6)

    def test_gradients_of_leaves_add_up_over_calls(self, double):
        x, p = Variable(X), Parameter(X.copy())
        for times in (1, 2, 3):
            F.sum(x * 2 + p * 3).backward(enable_double_backprop=double)
            np.testing.assert_array_equal(x.grad, np.full(3, 2.0 * times))
            np.testing.assert_array_equal(p.grad, np.full(3, 3.0 * times))

    def test_adding_up_leaves_other_gradients_alone(self, double):
        a, b = Variable(X), Variable(X)
        F.sum(a + b).backward(enable_double_backprop=double)
        before = b.grad.copy()
        F.sum(a * 5).backward(enable_double_backprop=double)
        np.testing.assert_array_equal(b.grad, before)
        np.testing.assert_array_equal(a.grad, np.full(3, 6.0))

    def test_retain_grad_keeps_the_gradients_in_between(self, double):
        x = Variable(X)
        h = x * 2
        y = F.sum(h * h)
        y.backward(enable_double_backprop=double)
        assert h.grad is None
        x.cleargrad()
        y.backward(retain_grad=True, enable_double_backprop=double)
        np.testing.assert_allclose(h.grad, 4 * X)

    def test_a_start_that_is_no_scalar_needs_a_gradient(self, double):
        x = Variable(X)
        y = x * x
        with pytest.raises(BackpropError, match=r"starts from a scalar, but this variable has shape \(3,\)"):
            y.backward(enable_double_backprop=double)
        y.grad = np.array([1.0, 0.0, -1.0])
        y.backward(enable_double_backprop=double)
        np.testing.assert_allclose(x.grad, 2 * X * [1, 0, -1])

    def test_one_element_of_any_shape_is_a_start(self, double):
        x = Variable(np.array([[3.0]]))
        y = x * x
        y.backward(enable_double_backprop=double)
        np.testing.assert_array_equal(x.grad, [[6]])
        np.testing.assert_array_equal(y.grad, [[1]])

    @pytest.mark.parametrize("settings", [{"loss_scale": 8.0}, {"scale": 8.0}, {"loss_scale": 2.0, "scale": 4.0}])
    def test_scales_multiply_the_start(self, double, settings):
        x = Variable(X.astype(np.float32))
        F.sum(x * x).backward(enable_double_backprop=double, **settings)
        np.testing.assert_allclose(x.grad, 16 * X)
        assert x.grad.dtype == np.float32

    def test_a_scale_applies_to_a_given_gradient_and_leaves_it_alone(self, double):
        x = Variable(X)
        y = x * 2
        y.grad = np.ones(3)
        y.backward(scale=0.5, enable_double_backprop=double)
        np.testing.assert_array_equal(x.grad, np.ones(3))
        np.testing.assert_array_equal(y.grad, np.ones(3))

    def test_a_leaf_is_no_error(self, double):
        x = Variable(np.array(1.0))
        x.backward(enable_double_backprop=double)

    def test_several_outputs_one_of_them_unused(self, double):
        x = Variable(np.arange(6.0))
        a, b, _ = F.split_axis(x, 3, 0)
        F.sum(a * b).backward(enable_double_backprop=double)
        np.testing.assert_array_equal(x.grad, [2, 3, 0, 1, 0, 0])

    def test_two_outputs_of_one_function_at_different_depths(self, double):
        x = Variable(np.arange(1.0, 5.0))
        a, b = F.split_axis(x, 2, 0)
        F.sum(F.exp(F.exp(a) * 0.1) + b).backward(enable_double_backprop=double)
        inner = np.exp([1.0, 2.0])
        np.testing.assert_allclose(x.grad, [*(np.exp(inner * 0.1) * inner * 0.1), 1, 1])

    def test_the_loss_of_part_of_a_graph(self, double):
        x = Variable(X)
        h = x * 2
        F.sum(h * 3)
        F.sum(h).backward(enable_double_backprop=double)
        np.testing.assert_array_equal(x.grad, [2, 2, 2])

    def test_a_leaf_that_nobody_holds(self, double):
        x = Variable(X)
        y = F.sum(Variable(X) * x)
        y.backward(enable_double_backprop=double)
        np.testing.assert_array_equal(x.grad, X)


def test_a_plain_pass_after_a_recorded_one_adds_up():
    for x in (Variable(X), Parameter(X.copy())):
        F.sum(x * x).backward(enable_double_backprop=True)
        F.sum(x * x).backward()
        np.testing.assert_allclose(x.grad, 4 * X)
        assert x.grad_var.creator is None


def test_the_plain_pass_records_nothing_for_functions_of_users(counted):
    x = Variable(X)
    F.sum(counted(x)).backward()
    assert x.grad_var.creator is None


def test_the_second_and_third_derivative():
    x = Variable(X)
    F.sum(x**4).backward(enable_double_backprop=True)
    g = x.grad_var
    for want in (4 * X**3, 12 * X**2, 24 * X):
        np.testing.assert_allclose(g.array, want)
        x.cleargrad()
        F.sum(g).backward(enable_double_backprop=True)
        g = x.grad_var
    np.testing.assert_allclose(g.array, np.full(3, 24.0))


def test_the_third_derivative_of_a_network():
    w = np.array([[0.3, -0.2], [0.5, 0.7]])

    def third(x, wanted):
        g = F.sum(F.sigmoid(F.tanh(x) @ w))
        for _ in range(wanted):
            (g,) = grad([F.sum(g)], [x], enable_double_backprop=True)
        return g

    x, eps = np.array([[0.4, -0.9]]), 1e-5
    g = third(Variable(x), 3)
    for i in range(2):
        step = np.zeros_like(x)
        step[0, i] = eps
        slope = (third(Variable(x + step), 2).array - third(Variable(x - step), 2).array).sum() / (2 * eps)
        np.testing.assert_allclose(g.array[0, i], slope, rtol=1e-6)


def test_a_gradient_penalty_trains_the_weights():
    w, x = Variable(np.array([2.0, -1.0, 0.5])), Variable(X)
    (gx,) = grad([F.sum(F.tanh(w * x))], [x], enable_double_backprop=True)
    F.sum(gx * gx).backward()

    def penalty(w):
        return ((w * (1 - np.tanh(w * X) ** 2)) ** 2).sum()

    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-6
        slope = (penalty(w.array + step) - penalty(w.array - step)) / 2e-6
        np.testing.assert_allclose(w.grad[i], slope, rtol=1e-6, atol=1e-9)


def test_unchain_backward_cuts_everything_before():
    x = Variable(X)
    h = F.exp(x)
    y = h * 2
    y.unchain_backward()
    z = F.sum(y * 3)
    assert (h.creator, y.creator) == (None, None)
    z.backward()
    assert x.grad is None
    np.testing.assert_array_equal(y.grad, [3, 3, 3])


def test_truncated_backpropagation_through_time():
    w = Variable(np.array(0.5))
    state = Variable(np.array(1.0))
    for _ in range(2):
        loss = state
        for _ in range(2):
            state = state * w
        loss = state
        w.cleargrad()
        loss.backward()
        start = state.item() / 0.25
        np.testing.assert_allclose(w.grad, start * 2 * 0.5)
        loss.unchain_backward()
        loss.cleargrad()


def test_no_backprop_mode_and_back():
    x = Variable(X)
    with no_backprop_mode():
        y = x * 2
        with force_backprop_mode():
            z = F.sum(x * 3)
    assert y.creator is None
    assert z.creator is not None
    z.backward()
    np.testing.assert_array_equal(x.grad, [3, 3, 3])


def test_a_recorded_pass_inside_no_backprop_mode_still_records():
    x = Variable(X)
    y = F.sum(x**3)
    with no_backprop_mode():
        y.backward(enable_double_backprop=True)
    assert x.grad_var.creator is not None


def test_variables_that_want_no_gradient_end_the_graph():
    x, c = Variable(X), Variable(X, requires_grad=False)
    assert (c * 2).creator is None
    F.sum(x * c * c).backward()
    np.testing.assert_allclose(x.grad, X * X)
    assert c.grad is None


def test_a_deep_graph_needs_no_deep_stack():
    x = Variable(np.array(1.0))
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert x.grad == 1
    y.unchain_backward()


def test_dropping_a_deep_graph():
    x = Variable(np.array(1.0))
    y = x
    for _ in range(50_000):
        y = y + 1.0
    del y
