"""What every differentiable function must pass: one table of cases a test file, checked by `check_function`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distrain import Variable
from distrain.gradient_check import check_backward, check_double_backward

DTYPES = [np.float16, np.float32, np.float64]


def draw(*shapes: tuple[int, ...], low: float = -2.0, high: float = 2.0, seed: int = 0) -> list[Any]:
    """Arrays of distinct numbers away from 0 and from each other, so that kinks are far."""
    generator = np.random.default_rng(seed)
    total = sum(int(np.prod(shape)) for shape in shapes)
    numbers = generator.permutation(np.linspace(low, high, total + 2)[1:-1]) if total else np.zeros(0)
    numbers = np.where(abs(numbers) < 0.02, 0.05, numbers)
    parts = np.split(numbers, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def outputs_of(func: Callable[..., Any], xs: list[Any]) -> list[Variable]:
    ys = func(*[Variable(x) for x in xs])
    return list(ys) if isinstance(ys, tuple) else [ys]


def check_function(
    func: Callable[..., Any], xs: list[Any], expected: Callable[..., Any], double: bool = True, tolerance: float = 1e-2
) -> None:
    """Values against NumPy, dtypes, strides, and both derivatives."""
    ys = outputs_of(func, xs)
    wants = expected(*xs)
    for y, want in zip(ys, wants if isinstance(wants, (tuple, list)) else [wants], strict=True):
        np.testing.assert_allclose(y.array, want, rtol=1e-6, atol=1e-12)
    for dtype in DTYPES:
        cast = [x.astype(dtype) for x in xs]
        low = outputs_of(func, cast)
        for y, exact in zip(low, ys, strict=True):
            assert isinstance(y.array, np.ndarray)
            assert y.dtype == dtype
            assert y.shape == exact.shape
            np.testing.assert_allclose(y.array, exact.array, rtol=tolerance, atol=tolerance)
    strided = [np.repeat(x, 2, axis=0)[::2] if x.ndim else x for x in xs]
    for y, want in zip(outputs_of(func, strided), ys, strict=True):
        np.testing.assert_array_equal(y.array, want.array)
    gys = draw(*[y.shape for y in ys], seed=1)
    check_backward(func, xs, gys, dtype=np.float64)
    check_backward(func, strided, gys, dtype=np.float64)
    check_backward(func, xs, gys, dtype=np.float32, eps=1e-2, atol=2e-2, rtol=2e-2)
    check_kinds(func, xs, gys)
    if double:
        check_double_backward(func, xs, gys, draw(*[x.shape for x in xs], seed=2), dtype=np.float64)


def check_kinds(func: Callable[..., Any], xs: list[Any], gys: list[Any]) -> None:
    """Gradients are arrays with shape and dtype of their input, also in float16."""
    for dtype in DTYPES:
        variables = [Variable(x.astype(dtype)) for x in xs]
        ys = func(*variables)
        for y, gy in zip(ys if isinstance(ys, tuple) else [ys], gys, strict=True):
            y.grad = gy.astype(dtype)
            y.backward()
        for x in variables:
            assert isinstance(x.grad, np.ndarray)
            assert (x.grad.shape, x.grad.dtype) == (x.shape, dtype)


def check_empty(func: Callable[..., Any], *shapes: tuple[int, ...]) -> None:
    """Inputs without elements give outputs and gradients, without a warning."""
    variables = [Variable(np.zeros(shape, np.float32)) for shape in shapes]
    ys = func(*variables)
    for y in ys if isinstance(ys, tuple) else [ys]:
        y.grad = np.ones_like(y.array)
        y.backward()
        assert not np.isnan(y.array).any()
    for x in variables:
        assert x.grad.shape == x.shape
