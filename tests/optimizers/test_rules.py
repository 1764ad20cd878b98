from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import distrain
from distrain import optimizers
from distrain.errors import ArgumentError

STEPS = 20
BOUNDS = {np.float64: 1e-12, np.float32: 2e-5, np.float16: 2e-2}


def sgd(w: np.ndarray, grads: Iterator[np.ndarray], lr: float) -> np.ndarray:
    for g in grads:
        w = w - lr * g
    return w


def momentum(w: np.ndarray, grads: Iterator[np.ndarray], lr: float, momentum: float) -> np.ndarray:
    v = np.zeros_like(w)
    for g in grads:
        v = momentum * v - lr * g
        w = w + v
    return w


def adagrad(w: np.ndarray, grads: Iterator[np.ndarray], lr: float, eps: float) -> np.ndarray:
    h = np.zeros_like(w)
    for g in grads:
        h = h + g**2
        w = w - lr * g / (np.sqrt(h) + eps)
    return w


def rmsprop(
    w: np.ndarray, grads: Iterator[np.ndarray], lr: float, alpha: float, eps: float, eps_inside_sqrt: bool = False
) -> np.ndarray:
    ms = np.zeros_like(w)
    for g in grads:
        ms = alpha * ms + (1 - alpha) * g**2
        w = w - lr * g / (np.sqrt(ms + eps) if eps_inside_sqrt else np.sqrt(ms) + eps)
    return w


def adam(
    w: np.ndarray,
    grads: Iterator[np.ndarray],
    alpha: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    eta: float = 1.0,
    weight_decay_rate: float = 0.0,
    amsgrad: bool = False,
) -> np.ndarray:
    m = v = largest = np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        largest = np.maximum(largest, v)
        alpha_t = alpha * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        step = alpha_t * m / (np.sqrt(largest if amsgrad else v) + eps)
        w = w - eta * (step + weight_decay_rate * w)
    return w


CASES: list[tuple[str, type[optimizers.GradientMethod], dict[str, Any], Callable[..., np.ndarray]]] = [
    ("SGD", optimizers.SGD, {"lr": 0.1}, sgd),
    ("MomentumSGD", optimizers.MomentumSGD, {"lr": 0.05, "momentum": 0.8}, momentum),
    ("AdaGrad", optimizers.AdaGrad, {"lr": 0.1, "eps": 1e-3}, adagrad),
    ("RMSprop", optimizers.RMSprop, {"lr": 0.02, "alpha": 0.9, "eps": 1e-3}, rmsprop),
    ("inside", optimizers.RMSprop, {"lr": 0.02, "alpha": 0.9, "eps": 1e-2, "eps_inside_sqrt": True}, rmsprop),
    ("Adam", optimizers.Adam, {"alpha": 0.02, "eps": 1e-3}, adam),
    ("eta", optimizers.Adam, {"alpha": 0.02, "eps": 1e-3, "eta": 0.5, "weight_decay_rate": 0.03}, adam),
    ("AMSGrad", optimizers.Adam, {"alpha": 0.02, "beta2": 0.9, "eps": 1e-3, "amsgrad": True}, adam),
    ("AdamW", optimizers.AdamW, {"alpha": 0.02, "eps": 1e-3, "weight_decay_rate": 0.05}, adam),
]


def gradients(shape: tuple[int, ...], dtype: Any) -> list[np.ndarray]:
    """Numbers that every dtype holds exactly; shrinking, so that AMSGrad differs from Adam."""
    random = np.random.default_rng(3)
    return [(np.round(random.normal(size=shape) * 64) / 64 / (1 + i // 5)).astype(dtype) for i in range(STEPS)]


def train(optimizer: Any, w: np.ndarray, grads: list[np.ndarray]) -> distrain.Parameter:
    link = distrain.Link()
    with link.init_scope():
        link.w = distrain.Parameter(w.copy())
    optimizer.setup(link)
    for g in grads:
        link.w.grad = g.copy()
        optimizer.update()
    return link.w


@pytest.mark.parametrize("dtype", BOUNDS, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(("make", "arguments", "formula"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_rule_follows_its_published_formula(make: Any, arguments: Any, formula: Any, dtype: Any) -> None:
    w = np.linspace(-2, 2, 12).reshape(3, 4).astype(dtype)
    grads = gradients(w.shape, dtype)
    expected = formula(w.astype(np.float64), (g.astype(np.float64) for g in grads), **arguments)
    param = train(make(**arguments), w, grads)
    assert param.array.dtype == dtype
    assert param.update_rule.t == STEPS
    assert np.abs(param.array - expected).max() <= BOUNDS[dtype]
    assert np.abs(expected - w).max() > 4 * BOUNDS[dtype]  # the bound says something


@pytest.mark.parametrize(("make", "arguments", "formula"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_float32_masters_are_as_exact_as_float32(make: Any, arguments: Any, formula: Any) -> None:
    w = np.linspace(-2, 2, 12).astype(np.float16)
    grads = gradients(w.shape, np.float16)
    expected = formula(w.astype(np.float64), (g.astype(np.float64) for g in grads), **arguments)
    optimizer = make(**arguments)
    optimizer.use_fp32_update()  # before setup, as scripts do it
    param = train(optimizer, w, grads)
    master = param.update_rule.state["master"]
    assert master.dtype == np.float32
    assert np.abs(master - expected).max() <= 2e-5
    np.testing.assert_array_equal(param.array, master.astype(np.float16))


def test_float32_masters_add_up_steps_that_float16_loses() -> None:
    w, grads = np.ones(2, np.float16), [np.ones(2, np.float16)] * 100
    lost = train(optimizers.SGD(lr=1e-4), w, grads)
    np.testing.assert_array_equal(lost.array, 1)
    optimizer = optimizers.SGD(lr=1e-4)
    optimizer.use_fp32_update()
    kept = train(optimizer, w, grads)
    assert np.abs(kept.array - 0.99).max() < 1e-3


@pytest.mark.parametrize("make", [optimizers.Adam, optimizers.AdaGrad, optimizers.RMSprop])
def test_an_eps_that_float16_cannot_hold_is_refused(make: Any) -> None:
    with pytest.raises(ArgumentError, match=r"eps=1e-08 is 0 in float16.*use_fp32_update"):
        train(make(), np.ones(2, np.float16), [np.zeros(2, np.float16)])
    optimizer = make()
    optimizer.use_fp32_update()
    np.testing.assert_array_equal(train(optimizer, np.ones(2, np.float16), [np.zeros(2, np.float16)]).array, 1)


def test_adam_tells_its_step_size() -> None:
    optimizer = optimizers.Adam(alpha=0.1)
    assert optimizer.lr == 0.1
    train(optimizer, np.ones(2, np.float32), [np.ones(2, np.float32)] * 2)
    assert optimizer.lr == pytest.approx(0.1 * math.sqrt(1 - 0.999**2) / (1 - 0.9**2))
