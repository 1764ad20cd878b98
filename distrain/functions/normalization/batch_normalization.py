"""Batch normalization (Ioffe and Szegedy, 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable, type_check
from distrain.backend import Array, get_array_module

Axes = int | Sequence[int] | None


def reduced_axes(axis: Axes, ndim: int, gamma_ndim: int) -> tuple[int, ...]:
    """The axes that statistics are taken over: those given, else all but the ones after axis 0 that gamma spans."""
    if axis is None:
        return (0, *range(gamma_ndim + 1, ndim))
    return (axis,) if isinstance(axis, int) else tuple(axis)


def wide_dtype(x: Any) -> Any:
    """The dtype to take statistics in: float16 sums lose too much."""
    return np.dtype(np.float32) if x.dtype.char == "e" else x.dtype


def cast(x: Any, dtype: Any) -> Any:
    """An array or a Variable as another dtype; itself if it has it already."""
    return x if x.dtype == dtype else x.astype(dtype)


class _Normalization(Primitive):
    name = ""
    arguments: tuple[str, ...] = ()

    def __init__(self, eps: float, axis: Axes) -> None:
        self.eps, self.axis = eps, axis

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        x, gamma = in_types[:2]
        for argument, array in zip(self.arguments, in_types, strict=True):
            type_check.expect_float(self.name, argument, array)
        axes = reduced_axes(self.axis, x.ndim, gamma.ndim)
        if not all(0 <= i < x.ndim for i in axes) or len(set(axes)) != len(axes):
            raise type_check.refuse(self.name, "axis", f"different axes in 0 … {x.ndim - 1}", f"{self.axis}")
        shape = tuple([n for i, n in enumerate(x.shape) if i not in axes])
        for argument, array in zip(self.arguments[1:], in_types[1:], strict=True):
            if array.shape != shape:
                expected = f"shape {shape} (x has shape {x.shape}, statistics over axes {axes})"
                raise type_check.refuse(self.name, argument, expected, type_check.describe(array))

    def layout(self, x: Any, gamma: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of the statistics, and the shape that gamma takes beside x."""
        axes = reduced_axes(self.axis, len(x.shape), len(gamma.shape))
        return axes, tuple([1 if i in axes else n for i, n in enumerate(x.shape)])

    def fitted(self, targets: tuple[int, ...], gradients: Sequence[Any]) -> Sequence[Any]:
        """The gradients that are wanted, with shapes and dtypes of their inputs."""
        fitted = []
        for i in targets:
            g, x = gradients[i], self.inputs[i]
            fitted.append(cast(g if g.shape == x.shape else g.reshape(x.shape), x.dtype))
        return fitted


class BatchNormalization(_Normalization):
    """See `batch_normalization`."""

    name = "batch_normalization"
    arguments = ("x", "gamma", "beta")

    def __init__(
        self, eps: float, running_mean: Array | None, running_var: Array | None, decay: float, axis: Axes
    ) -> None:
        super().__init__(eps, axis)
        self.running_mean, self.running_var, self.decay = running_mean, running_var, decay

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        super().check_type_forward(in_types)
        x, gamma = in_types[:2]
        for argument, array in (("running_mean", self.running_mean), ("running_var", self.running_var)):
            if array is not None and array.shape != gamma.shape:
                raise type_check.refuse(self.name, argument, f"shape {gamma.shape}", type_check.describe(array))
        if x.size == 0:
            raise type_check.refuse(self.name, "x", "at least one sample", type_check.describe(x))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, gamma, beta = inputs
        xp = get_array_module(x)
        axes, shape = self.layout(x, gamma)
        self.retain_inputs((0, 1))
        dtype = wide_dtype(x)
        self.mean = x.mean(axis=axes, keepdims=True, dtype=dtype)
        y = x - self.mean
        var = xp.square(y).mean(axis=axes, keepdims=True)
        self.inv_std = 1 / xp.sqrt(var + self.eps)
        y *= gamma.reshape(shape).astype(dtype, copy=False) * self.inv_std
        y += beta.reshape(shape)
        m = x.size // gamma.size
        self._follow(self.running_mean, self.mean)
        self._follow(self.running_var, var * (m / max(m - 1, 1)))
        return (y.astype(x.dtype, copy=False),)

    def _follow(self, running: Array | None, batch: Array) -> None:
        if running is not None:
            running *= self.decay
            running += ((1 - self.decay) * batch.reshape(running.shape)).astype(running.dtype, copy=False)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x, gamma = self.kept_inputs(gy)
        axes, shape = self.layout(x, gamma)
        dtype = wide_dtype(x)
        m = math.prod(x.shape) // math.prod(gamma.shape)
        x, gy, gamma = cast(x, dtype), cast(gy, dtype), cast(gamma, dtype)
        if isinstance(gy, Variable):
            centered = x - x.mean(axis=axes, keepdims=True)
            inv_std = ((centered * centered).mean(axis=axes, keepdims=True) + self.eps) ** -0.5
            normal = centered * inv_std
        else:
            inv_std = self.inv_std
            normal = x - self.mean
            normal *= inv_std
        gbeta = gy.sum(axis=axes, keepdims=True)
        ggamma = (gy * normal).sum(axis=axes, keepdims=True)
        scale = gamma.reshape(shape) * inv_std
        if isinstance(gy, Variable):
            gx = scale * (gy - (normal * ggamma + gbeta) * (1 / m))
        else:
            normal *= ggamma * (-1 / m)
            normal += gy
            normal -= gbeta * (1 / m)
            normal *= scale
            gx = normal
        return self.fitted(target_input_indexes, (gx, ggamma, gbeta))


class FixedBatchNormalization(_Normalization):
    """See `fixed_batch_normalization`."""

    name = "fixed_batch_normalization"
    arguments = ("x", "gamma", "beta", "mean", "var")

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, gamma, beta, mean, var = inputs
        xp = get_array_module(x)
        _, shape = self.layout(x, gamma)
        dtype = wide_dtype(x)
        self.retain_inputs((0, 1, 3, 4))
        scale = gamma.astype(dtype, copy=False) / xp.sqrt(var.astype(dtype, copy=False) + self.eps)
        y = x - mean.reshape(shape).astype(dtype, copy=False)
        y *= scale.reshape(shape)
        y += beta.reshape(shape)
        return (y.astype(x.dtype, copy=False),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        dtype = wide_dtype(self.inputs[0])
        x, gamma, mean, var = [cast(v, dtype) for v in self.kept_inputs(gy)]
        gy = cast(gy, dtype)
        axes, shape = self.layout(x, gamma)
        inv_std = (var.reshape(shape) + self.eps) ** -0.5
        gamma = gamma.reshape(shape)
        gbeta = gy.sum(axis=axes, keepdims=True)
        ggamma = (gy * (x - mean.reshape(shape))).sum(axis=axes, keepdims=True) * inv_std
        gmean = -gbeta * gamma * inv_std
        gvar = ggamma * gamma * inv_std * inv_std * -0.5
        return self.fitted(target_input_indexes, (gy * (gamma * inv_std), ggamma, gbeta, gmean, gvar))


def batch_normalization(
    x: Any,
    gamma: Any,
    beta: Any,
    eps: float = 2e-5,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    decay: float = 0.9,
    axis: Axes = None,
) -> Variable:
    """Shifts and scales x to mean 0 and variance 1 over the batch, then to mean beta and deviation gamma.

    y = gamma * (x - mean) / sqrt(var + eps) + beta

    Args:
        x: (N, C, ...).
        gamma: (C,), or the shape of x without the axes that statistics are taken over.
        beta: shape of gamma.
        eps: added to the variance.
        running_mean: shape of gamma; updated in place to `decay * running_mean + (1 - decay) * mean`.
        running_var: the same for the variance, with the unbiased estimate (times m / (m - 1), m numbers a channel).
        decay: weight of the past in the running statistics.
        axis: the axes that statistics are taken over; None means axis 0 and those after gamma's.

    Returns:
        Shape and dtype of x.

    Raises:
        InvalidType: shapes do not fit, or there is no sample.
    """
    return BatchNormalization(eps, running_mean, running_var, decay, axis).apply1(x, gamma, beta)


def fixed_batch_normalization(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float = 2e-5, axis: Axes = None
) -> Variable:
    """Batch normalization with given statistics, as for inference.

    Args:
        x: (N, C, ...).
        gamma: (C,), or the shape of x without the axes that statistics are taken over.
        beta: shape of gamma.
        mean: shape of gamma.
        var: shape of gamma.
        eps: added to the variance.
        axis: as for `batch_normalization`.

    Returns:
        Shape and dtype of x.

    Raises:
        InvalidType: shapes do not fit.
    """
    return FixedBatchNormalization(eps, axis).apply1(x, gamma, beta, mean, var)
