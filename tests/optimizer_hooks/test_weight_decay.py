from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers, rng
from distrain.optimizer_hooks import GradientClipping, WeightDecay

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
RATE = 0.125


class ByHand:
    """Weight decay that does not know of flat arrays: called for each parameter."""

    name = "WeightDecay"
    call_for_each_param = True
    timing = "pre"

    def __call__(self, rule: Any, param: Any) -> None:
        assert isinstance(param, distrain.Parameter)
        param.grad += RATE * param.array


def model() -> Any:
    rng.set_seed(5)
    return L.Sequential(L.Linear(4, 3), F.tanh, L.Linear(3, 2))


def train(link: Any, optimizer: Any, hook: Any, steps: int = 4, **arguments: Any) -> list[Any]:
    optimizer.setup(link)
    optimizer.add_hook(hook, **arguments)
    for _ in range(steps):
        optimizer.update(lambda: F.sum(link(X) ** 2))
    return [param.array.copy() for param in link.params()]


def same(found: list[Any], expected: list[Any]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.MomentumSGD, optimizers.Adam, optimizers.RMSprop])
def test_on_the_flat_array_it_is_the_same_as_one_by_one(make: Any) -> None:
    found = train(model(), make(), WeightDecay(RATE))
    same(found, train(model(), make(), ByHand()))
    plain = train(model(), make(), lambda optimizer: None)
    assert all((a != b).any() for a, b in zip(found, plain, strict=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_formula(dtype: Any) -> None:
    link = distrain.Link()
    with link.init_scope():
        link.W = distrain.Parameter(np.array([[2, -4]], dtype))
    optimizer = optimizers.SGD(lr=0.5).setup(link)
    optimizer.add_hook(WeightDecay(RATE))
    link.W.grad = np.array([[1, 1]], dtype)
    optimizer.update()
    assert link.W.dtype == dtype
    np.testing.assert_array_equal(link.W.array, np.array([[2, -4]]) - 0.5 * (1 + RATE * np.array([[2, -4]])))


def test_a_parameter_with_a_hook_of_its_own_gets_both() -> None:
    link = model()
    optimizer = optimizers.SGD(lr=0.1).setup(link)
    optimizer.add_hook(WeightDecay(RATE))
    link[0].W.update_rule.add_hook(ByHand())
    before = {path: param.array.copy() for path, param in link.namedparams()}
    optimizer.update(lambda: F.sum(link(X)) * 0)
    for path, param in link.namedparams():
        rate = RATE * (2 if path == "/0/W" else 1)
        np.testing.assert_allclose(param.array, before[path] * (1 - 0.1 * rate), rtol=1e-6)


def test_a_hook_of_one_parameter_leaves_the_others_alone() -> None:
    link = model()
    optimizer = optimizers.SGD(lr=0.1).setup(link)
    link[0].W.update_rule.add_hook(WeightDecay(RATE))
    before = {path: param.array.copy() for path, param in link.namedparams()}
    optimizer.update(lambda: F.sum(link(X)) * 0)
    for path, param in link.namedparams():
        np.testing.assert_allclose(param.array, before[path] * (1 - 0.1 * RATE * (path == "/0/W")), rtol=1e-6)
    link[0].W.update_rule.remove_hook("WeightDecay")
    stays = link[0].W.array.copy()
    optimizer.update(lambda: F.sum(link(X)) * 0)
    np.testing.assert_array_equal(link[0].W.array, stays)


def test_frozen_parameters_and_those_without_gradient_do_not_decay() -> None:
    link = model()
    optimizer = optimizers.SGD(lr=0.1).setup(link)
    optimizer.add_hook(WeightDecay(RATE))
    link[0].disable_update()
    before = {path: param.array.copy() for path, param in link.namedparams()}
    optimizer.update(lambda: F.sum(link[2].W * 0))
    changed = {path for path, param in link.namedparams() if (param.array != before[path]).any()}
    assert changed == {"/1/W"}  # the function between the layers has no number


@pytest.mark.parametrize("steps", [1, 4])
def test_after_the_update_it_only_changes_the_gradient(steps: int) -> None:
    link = model()
    found = train(link, optimizers.SGD(lr=0.1), WeightDecay(RATE), steps, timing="post")
    other = model()
    same(found, train(other, optimizers.SGD(lr=0.1), lambda optimizer: None, steps))
    for param, plain in zip(link.params(), other.params(), strict=True):
        np.testing.assert_allclose(param.grad, plain.grad + RATE * param.array, rtol=1e-6, atol=1e-7)


def test_hooks_run_in_the_order_in_which_they_came() -> None:
    gradients = []
    for hooks in ((WeightDecay(RATE), GradientClipping(0.01)), (GradientClipping(0.01), WeightDecay(RATE))):
        link = model()
        optimizer = optimizers.SGD(lr=0.1).setup(link)
        for hook in hooks:
            optimizer.add_hook(hook)
        optimizer.update(lambda link=link: F.sum(link(X) ** 2))
        gradients.append(np.sqrt(sum(float((param.grad**2).sum()) for param in link.params())))
    assert gradients[0] == pytest.approx(0.01, rel=1e-4)
    assert gradients[1] > 0.02
