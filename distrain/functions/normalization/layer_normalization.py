"""Layer normalization (Ba, Kiros and Hinton, 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable, type_check
from distrain.backend import Array, get_array_module
from distrain.functions.normalization.batch_normalization import cast, wide_dtype


class LayerNormalization(Primitive):
    """See `layer_normalization`."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        x = in_types[0]
        for argument, array in zip(("x", "gamma", "beta"), in_types, strict=True):
            type_check.expect_float("layer_normalization", argument, array)
        type_check.expect_ndim("layer_normalization", "x", x, 2)
        if x.shape[1] == 0:
            raise type_check.refuse("layer_normalization", "x", "at least one unit", type_check.describe(x))
        for argument, array in (("gamma", in_types[1]), ("beta", in_types[2])):
            if array.shape != (x.shape[1],):
                actual = f"{type_check.describe(array)} for x of shape {x.shape}"
                raise type_check.refuse("layer_normalization", argument, f"shape {(x.shape[1],)}", actual)

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, gamma, beta = inputs
        xp = get_array_module(x)
        self.retain_inputs((0, 1))
        self.mean = x.mean(axis=1, keepdims=True, dtype=wide_dtype(x))
        y = x - self.mean
        self.inv_std = 1 / xp.sqrt(xp.square(y).mean(axis=1, keepdims=True) + self.eps)
        y *= self.inv_std
        y *= gamma
        y += beta
        return (y.astype(x.dtype, copy=False),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        dtype = wide_dtype(self.inputs[0])
        x, gamma = [cast(v, dtype) for v in self.kept_inputs(gy)]
        gy = cast(gy, dtype)
        if isinstance(gy, Variable):
            centered = x - x.mean(axis=1, keepdims=True)
            inv_std = ((centered * centered).mean(axis=1, keepdims=True) + self.eps) ** -0.5
        else:
            centered, inv_std = x - self.mean, self.inv_std
        normal = centered * inv_std
        gradients = []
        for i in target_input_indexes:
            if i == 0:
                g = gy * gamma
                along = (g * normal).mean(axis=1, keepdims=True)
                gradients.append((g - g.mean(axis=1, keepdims=True) - normal * along) * inv_std)
            else:
                gradients.append((gy * normal if i == 1 else gy).sum(axis=0))
        return [cast(g, self.inputs[i].dtype) for i, g in zip(target_input_indexes, gradients, strict=True)]


def layer_normalization(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Variable:
    """Shifts and scales every sample to mean 0 and variance 1 over its units, then by gamma and beta.

    y = gamma * (x - mean) / sqrt(var + eps) + beta, with mean and variance of each row of x

    Args:
        x: (N, size).
        gamma: (size,).
        beta: (size,).
        eps: added to the variance.

    Returns:
        (N, size), dtype of x.

    Raises:
        InvalidType: shapes do not fit.
    """
    return LayerNormalization(eps).apply1(x, gamma, beta)
