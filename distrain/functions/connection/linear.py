"""Linear: y = x W^T + b."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable, type_check
from distrain.backend import Array
from distrain.functions.connection.gemm import gemm
from distrain.functions.constants import host_ones


class Linear(Primitive):
    """See `linear`."""

    _keep_inputs = (0, 1)
    n_batch_axes = 1

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        x, W = in_types[0], in_types[1]
        if x.dtype.kind != "f" or W.dtype.kind != "f":
            type_check.expect_float("linear", "x", x)
            type_check.expect_float("linear", "W", W)
        if W.ndim != 2:
            type_check.expect_ndim("linear", "W", W, 2)
        if not 1 <= self.n_batch_axes < x.ndim:
            actual = f"n_batch_axes={self.n_batch_axes}, x has {type_check.describe(x)}"
            raise type_check.refuse("linear", "n_batch_axes", f"1 … x.ndim - 1 = {x.ndim - 1}", actual)
        size = x.shape[1] if x.ndim == 2 else math.prod(x.shape[self.n_batch_axes :])
        if size != W.shape[1]:
            expected = f"{W.shape[1]} values a sample (W has shape {W.shape})"
            raise type_check.refuse("linear", "x", expected, f"{size} ({type_check.describe(x)})")
        if len(in_types) == 3 and in_types[2].shape != (W.shape[0],):
            raise type_check.refuse("linear", "b", f"shape {(W.shape[0],)}", type_check.describe(in_types[2]))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, W = inputs[0], inputs[1]
        is_matrix = x.ndim == 2
        y = gemm(x if is_matrix else self._rows(x, W.shape[1]), W.T, x.dtype)
        if len(inputs) == 3:
            y += inputs[2]
        return (y if is_matrix else y.reshape(*x.shape[: self.n_batch_axes], W.shape[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        double = isinstance(gy, Variable)
        x, W = self.get_retained_inputs() if double else self._input_data
        shape = x.shape
        if len(shape) != 2:
            gy, x = self._rows(gy, W.shape[0]), self._rows(x, W.shape[1])
        if double:
            return self._graph(target_input_indexes, gy, x, W, shape)
        gxs = []
        for i in target_input_indexes:
            if i == 0:
                gx = gemm(gy, W, x.dtype)
                gxs.append(gx if len(shape) == 2 else gx.reshape(shape))
            elif i == 1:
                gxs.append(gemm(gy.T, x, W.dtype, self.grad_buffer(1)))
            else:
                gxs.append(self._bias_gradient(gy))
        return gxs

    def _bias_gradient(self, gy: Array) -> Array:
        dtype: Any = self.inputs[2].dtype
        if dtype.char == "e":  # float16 would lose the small addends
            return gy.sum(axis=0, dtype=np.float32).astype(dtype)
        if isinstance(gy, np.ndarray) and gy.dtype == dtype:  # BLAS adds rows up several times faster than NumPy
            return host_ones(len(gy), dtype).dot(gy, self.grad_buffer(2))
        return gy.sum(axis=0, dtype=dtype, out=self.grad_buffer(2))

    def _graph(self, targets: tuple[int, ...], gy: Variable, x: Variable, W: Variable, shape: Any) -> Sequence[Any]:
        gxs = []
        for i in targets:
            if i == 0:
                gxs.append(linear(gy, W.T).reshape(shape))
            elif i == 1:
                gW = linear(gy.T, x.T)
                gxs.append(gW if gW.dtype == W.dtype else gW.astype(W.dtype))
            else:
                gb = gy.sum(axis=0)
                dtype = self.inputs[2].dtype
                gxs.append(gb if gb.dtype == dtype else gb.astype(dtype))
        return gxs

    def _rows(self, x: Any, size: int) -> Any:
        return x.reshape((math.prod(x.shape[: self.n_batch_axes]), size))


def linear(x: Any, W: Any, b: Any = None, n_batch_axes: int = 1) -> Variable:
    """Affine map y = x W^T + b of every sample.

    Args:
        x: (N, in), or more axes: the first `n_batch_axes` number the samples, the others are flattened to one of
            length `in`.
        W: (out, in).
        b: (out,), or None.
        n_batch_axes: how many leading axes of x number the samples.

    Returns:
        (N, out), or x's leading axes and `out`; dtype of x.

    Raises:
        InvalidType: the sizes do not fit.
    """
    function = Linear()
    if n_batch_axes != 1:
        function.n_batch_axes = n_batch_axes
    return function.apply((x, W) if b is None else (x, W, b))[0]
