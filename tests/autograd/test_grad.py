from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Parameter, Variable, grad
from distrain.errors import ArgumentError

X = np.array([0.5, -1.5, 2.0])


def test_gradients_without_touching_anybodys_grad():
    x, w = Variable(X), Parameter(X.copy())
    h = x * w
    gx, gh = grad([F.sum(h * h)], [x, h])
    np.testing.assert_allclose(gx.array, 2 * X**3)
    np.testing.assert_allclose(gh.array, 2 * X**2)
    assert (x.grad, w.grad, h.grad) == (None, None, None)
    assert gx.creator is None


def test_an_input_on_which_nothing_depends_has_none():
    x, y = Variable(X), Variable(X)
    assert grad([F.sum(x)], [y]) == [None]


def test_an_output_is_its_own_input():
    x = Variable(X)
    y = x * 2
    gy, gx = grad([y], [y, x])
    np.testing.assert_array_equal(gy.array, [1, 1, 1])
    np.testing.assert_array_equal(gx.array, [2, 2, 2])


@pytest.mark.parametrize("double", [False, True])
def test_several_outputs_add_up(double):
    x = Variable(X)
    y = x * x
    starts = [Variable(np.array([1.0, 2.0, 3.0])), None, Variable(np.full(3, 0.5))]
    (gx,) = grad([y, F.exp(x), y], [x], starts, enable_double_backprop=double)
    np.testing.assert_allclose(gx.array, np.array([1.5, 2.5, 3.5]) * 2 * X + np.exp(X))


def test_grad_inputs_are_added_and_set_grad_stores():
    x, y = Variable(X), Variable(X)
    gx, gy = grad([F.sum(x)], [x, y], grad_inputs=[Variable(X), Variable(X)], set_grad=True)
    np.testing.assert_array_equal(gx.array, X + 1)
    np.testing.assert_array_equal(gy.array, X)
    np.testing.assert_array_equal(x.grad, X + 1)
    assert x.grad_var is gx


def test_loss_scale_and_retain_grad():
    x = Variable(X)
    h = x * 2
    (gx,) = grad([F.sum(h * 3)], [x], loss_scale=4.0, retain_grad=True)
    np.testing.assert_array_equal(gx.array, [24, 24, 24])
    np.testing.assert_array_equal(h.grad, [12, 12, 12])


def test_only_the_paths_between_are_visited():
    x, other = Variable(X), Variable(X)
    seen = []

    class Noted(type(F.exp(x).creator)):
        def gradients(self, targets, gys, double, accumulate):
            seen.append(targets)
            return super().gradients(targets, gys, double, accumulate)

    y = F.sum(Noted().apply1(x) * Noted().apply1(other))
    grad([y], [x])
    assert seen == [(0,)]


def test_gradients_with_a_graph_can_be_differentiated_again():
    x = Variable(X)
    (gx,) = grad([F.sum(x**3)], [x], enable_double_backprop=True)
    (ggx,) = grad([gx], [x])
    np.testing.assert_allclose(ggx.array, 6 * X)


def test_lengths_must_match():
    x = Variable(X)
    with pytest.raises(ArgumentError, match="grad_outputs has 2 entries for 1 variables"):
        grad([F.sum(x)], [x], grad_outputs=[None, None])
    with pytest.raises(ArgumentError, match="grad_inputs has 0 entries for 1 variables"):
        grad([F.sum(x)], [x], grad_inputs=[])
