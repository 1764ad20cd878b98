"""Finite differences against `backward`: how every function here is tested, and how yours can be.

    def test_my_function():
        x, gy = np.random.randn(3, 2), np.random.randn(3, 2)
        gradient_check.check_backward(my_function, x, gy, dtype=np.float64)

The checks move all inputs together along one direction, drawn anew for each check but always from the same seed, and
compare the slope that is measured with the one that the gradients predict. One number is compared, so a check costs
two forward passes whatever the size of the inputs; a wrong gradient shows unless it happens to be wrong at right
angles to the direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distrain import backend
from distrain.autograd import Parameter, Variable, grad
from distrain.backend import Array
from distrain.errors import ArgumentError

Outputs = Variable | Sequence[Variable]


def numerical_grad(
    f: Callable[[], Sequence[Array]], inputs: Sequence[Array], grad_outputs: Sequence[Array | None], eps: float = 1e-3
) -> list[Array]:
    """Gradients by central differences, one element at a time.

    Args:
        f: computes the outputs from `inputs` as they are at that moment.
        inputs: arrays of a floating point dtype, moved and put back in place.
        grad_outputs: weight of each output; None leaves that output out.
        eps: how far an element is moved to either side.

    Returns:
        For each input the gradient of `sum(output * grad_output)`; shape and dtype of the input.
    """
    grads = []
    for x in inputs:
        gx = backend.get_array_module(x).zeros_like(x)
        for index in np.ndindex(x.shape):
            before = x[index].copy()
            x[index] = before + eps
            after_plus = _copies(f())
            x[index] = before - eps
            after_minus = _copies(f())
            x[index] = before
            gx[index] = _weighted(after_plus, after_minus, grad_outputs) / (2 * eps)
        grads.append(gx)
    return grads


def check_backward(
    func: Callable[..., Outputs],
    x_data: Array | Sequence[Array],
    y_grad: Array | Sequence[Array | None] | None,
    params: Parameter | Sequence[Parameter] = (),
    eps: float = 1e-3,
    atol: float = 1e-5,
    rtol: float = 1e-4,
    no_grads: Sequence[bool] | None = None,
    dtype: DTypeLike | None = None,
) -> None:
    """Checks the gradients of a function against finite differences.

    Args:
        func: takes one Variable an input and returns one Variable or several; gives the same each time it is called.
        x_data: the input array, or several.
        y_grad: gradient of the output, or of each; None for a scalar output, and for an output to leave out.
        params: parameters that `func` uses; their gradients are checked too.
        eps: length of the step to either side.
        atol, rtol: how far the two slopes may be apart, `atol + rtol * abs(numeric)`.
        no_grads: for each input whether to leave its gradient out. Inputs without a floating point dtype always are.
        dtype: dtype to compute in; floating point inputs, gradients and parameters are cast to it. float64 makes
            finite differences exact enough for the default tolerances.

    Raises:
        AssertionError: the gradients do not fit the function; the message shows both slopes.
        ArgumentError: lengths do not match, or nothing is left to check.
    """
    xs = [_cast(x, dtype) for x in _as_list(x_data)]
    gys = [None if gy is None else _cast(gy, dtype) for gy in _as_list(y_grad)]
    moved = _moved_inputs(xs, no_grads)
    with _cast_parameters(_as_list(params), dtype) as parameters:
        if not moved and not parameters:
            raise ArgumentError("there is nothing to check: no input takes a gradient, and there are no params")
        variables = [Variable(x, requires_grad=i in moved) for i, x in enumerate(xs)]
        ys = _as_list(func(*variables))
        if len(gys) != len(ys):
            raise ArgumentError(f"y_grad has {len(gys)} entries for {len(ys)} outputs")
        gys = [_ones(y) if gy is None and len(ys) == 1 else gy for y, gy in zip(ys, gys, strict=True)]
        leaves = [variables[i] for i in moved] + parameters
        chosen = [(y, gy) for y, gy in zip(ys, gys, strict=True) if gy is not None]
        _check_given(chosen)
        gxs = grad([y for y, _ in chosen], leaves, [Variable(gy) for _, gy in chosen])
        for x, gx in zip(leaves, gxs, strict=True):
            _check_kind(x, gx)
        _compare_slopes(
            lambda *arrays: [y.array for y in _as_list(func(*[Variable(x, requires_grad=False) for x in arrays]))],
            xs,
            moved,
            parameters,
            gys,
            [None if gx is None else gx.array for gx in gxs],
            (eps, atol, rtol),
        )


def check_double_backward(
    func: Callable[..., Outputs],
    x_data: Array | Sequence[Array],
    y_grad: Array | Sequence[Array],
    x_grad_grad: Array | Sequence[Array],
    params: Parameter | Sequence[Parameter] = (),
    params_grad_grad: Array | Sequence[Array] = (),
    eps: float = 1e-3,
    atol: float = 1e-4,
    rtol: float = 1e-3,
    no_grads: Sequence[bool] | None = None,
    dtype: DTypeLike | None = None,
) -> None:
    """Checks the second derivatives of a function: that the backward pass itself has the right gradients.

    The plain backward pass gives the finite differences and the recorded one the gradients, so both are tried; first
    they are compared with each other.

    Args:
        func: as in `check_backward`.
        x_data: the input array, or several.
        y_grad: gradient of the output, or of each.
        x_grad_grad: gradient of the input's gradient, or one for each input that takes a gradient.
        params: parameters that `func` uses.
        params_grad_grad: gradient of each parameter's gradient.
        eps, atol, rtol, no_grads, dtype: as in `check_backward`.

    Raises:
        AssertionError: the second derivatives do not fit, or the two kinds of backward pass disagree.
    """
    xs = [_cast(x, dtype) for x in _as_list(x_data)]
    gys = [_cast(gy, dtype) for gy in _as_list(y_grad)]
    moved = _moved_inputs(xs, no_grads)
    ggs = [_cast(gg, dtype) for gg in _as_list(x_grad_grad) + _as_list(params_grad_grad)]
    with _cast_parameters(_as_list(params), dtype) as parameters:
        if len(ggs) != len(moved) + len(parameters):
            raise ArgumentError(
                f"x_grad_grad and params_grad_grad have {len(ggs)} entries "
                f"for {len(moved)} inputs and {len(parameters)} parameters with gradients"
            )

        def first_order(inputs: Sequence[Variable], recorded: bool) -> list[Variable]:
            variables, outs = inputs[: len(xs)], inputs[len(xs) :]
            leaves = [variables[i] for i in moved] + parameters
            gxs = grad(_as_list(func(*variables)), leaves, outs, enable_double_backprop=recorded)
            zeros = (Variable(x.xp.zeros_like(x.array), requires_grad=False) for x in leaves)
            return [zero if gx is None else gx for gx, zero in zip(gxs, zeros, strict=True)]

        def plain(*arrays: Array) -> list[Array]:
            graph = [Variable(x, requires_grad=i in moved or i >= len(xs)) for i, x in enumerate(arrays)]
            return [gx.array for gx in first_order(graph, recorded=False)]

        variables = [Variable(x, requires_grad=i in moved) for i, x in enumerate(xs)] + [Variable(gy) for gy in gys]
        gxs = first_order(variables, recorded=True)
        for one, other in zip(gxs, plain(*xs, *gys), strict=True):
            np.testing.assert_allclose(
                backend.to_cpu(one.array),
                backend.to_cpu(other),
                rtol=rtol,
                atol=atol,
                err_msg="the backward pass with enable_double_backprop (first) and the plain one (second) disagree",
            )
        targets = [*moved, *range(len(xs), len(variables))]
        leaves = [variables[i] for i in targets] + parameters
        found = grad(gxs, leaves, [Variable(gg) for gg in ggs])
        _compare_slopes(
            plain,
            [*xs, *gys],
            targets,
            parameters,
            ggs,
            [None if g is None else g.array for g in found],
            (eps, atol, rtol),
        )


def _compare_slopes(
    f: Callable[..., list[Array]],
    xs: list[Array],
    moved: list[int],
    parameters: list[Parameter],
    gys: Sequence[Array | None],
    gxs: list[Array | None],
    tolerances: tuple[float, float, float],
) -> None:
    """Compares `sum(gx * direction)` with the slope of `sum(gy * f)` along that direction."""
    eps, atol, rtol = tolerances
    starts = [xs[i] for i in moved] + [p.array for p in parameters]
    directions = _unit_direction(starts)

    def at(step: float) -> list[Array]:
        places = [x + (step * d).astype(x.dtype) for x, d in zip(starts, directions, strict=True)]
        inputs = list(xs)
        for i, place in zip(moved, places, strict=False):
            inputs[i] = place
        for parameter, place in zip(parameters, places[len(moved) :], strict=True):
            parameter.array = place
        return _copies(f(*inputs))

    numeric = _weighted(at(eps), at(-eps), gys) / (2 * eps)
    for parameter, start in zip(parameters, starts[len(moved) :], strict=True):
        parameter.array = start
    analytic = sum(
        float((gx.astype(np.float64) * d).sum()) for gx, d in zip(gxs, directions, strict=True) if gx is not None
    )
    if not abs(analytic - numeric) <= atol + rtol * abs(numeric):  # also catches NaN
        shapes = ", ".join(f"{x.shape} {x.dtype}" for x in starts)
        raise AssertionError(
            f"backward does not fit forward, along a random direction over {shapes}:\n"
            f"analytic: {analytic!r}\nnumeric:  {numeric!r}\n"
            f"They differ by {abs(analytic - numeric):.3g}; atol={atol}, rtol={rtol}, eps={eps}."
        )


def _unit_direction(arrays: list[Array]) -> list[Array]:
    generator = np.random.default_rng(20)
    drawn = [generator.uniform(0.2, 1.0, x.shape) * generator.choice([-1.0, 1.0], x.shape) for x in arrays]
    norm = float(np.sqrt(sum(float((d * d).sum()) for d in drawn))) or 1.0
    return [backend.get_array_module(x).asarray(d / norm) for x, d in zip(arrays, drawn, strict=True)]


def _weighted(plus: list[Array], minus: list[Array], weights: Sequence[Array | None]) -> float:
    return sum(
        float(((p - m).astype(np.float64) * w).sum())
        for p, m, w in zip(plus, minus, weights, strict=True)
        if w is not None
    )


def _copies(arrays: Sequence[Array]) -> list[Array]:
    return [np.array(y) if isinstance(y, np.generic) else y.copy() for y in arrays]


def _moved_inputs(xs: list[Array], no_grads: Sequence[bool] | None) -> list[int]:
    if no_grads is not None and len(no_grads) != len(xs):
        raise ArgumentError(f"no_grads has {len(no_grads)} entries for {len(xs)} inputs")
    return [i for i, x in enumerate(xs) if x.dtype.kind == "f" and not (no_grads is not None and no_grads[i])]


def _check_given(chosen: list[tuple[Variable, Array]]) -> None:
    for y, gy in chosen:
        if y.shape != gy.shape:
            raise ArgumentError(f"y_grad has shape {gy.shape} for an output of shape {y.shape}")


def _check_kind(x: Variable, gx: Variable | None) -> None:
    if gx is not None and (gx.shape != x.shape or gx.dtype != x.dtype):
        raise AssertionError(f"the gradient of an input of shape {x.shape}, {x.dtype} has shape {gx.shape}, {gx.dtype}")


def _ones(y: Variable) -> Array:
    if y.size != 1:
        raise ArgumentError(f"y_grad is None, but the output is no scalar: it has shape {y.shape}")
    return y.xp.ones(y.shape, y.dtype)


def _as_list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (tuple, list)) else [x]


def _cast(x: Array, dtype: DTypeLike | None) -> Array:
    return x.astype(dtype) if dtype is not None and x.dtype.kind == "f" else x


@contextmanager
def _cast_parameters(parameters: list[Parameter], dtype: DTypeLike | None) -> Any:
    before = [p.array for p in parameters]
    for p in parameters:
        p.array = _cast(p.array, dtype)
    try:
        yield parameters
    finally:
        for p, array in zip(parameters, before, strict=True):
            p.array = array
