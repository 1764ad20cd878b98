"""Products of matrices and of stacks of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable
from distrain.autograd.operators import install
from distrain.autograd.type_check import describe, refuse
from distrain.backend import Array
from distrain.functions.array.broadcast import common_shape, summed_to
from distrain.functions.array.shape import reshape
from distrain.functions.math.basic import of_one_dtype


class MatMul(Primitive):
    """Product of matrices, each transposed first if asked for; leading axes broadcast."""

    def __init__(self, transa: bool = False, transb: bool = False) -> None:
        self.transa = transa
        self.transb = transb

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        a, b = in_types
        if a.shape[-2 if self.transa else -1] != b.shape[-1 if self.transb else -2]:
            raise refuse(
                "matmul",
                "b",
                f"inner lengths that agree (transa={self.transa}, transb={self.transb})",
                f"a: {describe(a)}; b: {describe(b)}",
            )
        if a.ndim > 2 or b.ndim > 2:
            common_shape("matmul", a[..., 0, 0], b[..., 0, 0])

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0, 1))
        a, b = inputs
        return ((a.swapaxes(-1, -2) if self.transa else a) @ (b.swapaxes(-1, -2) if self.transb else b),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        a, b = self.kept_inputs(gy)
        ta, tb = self.transa, self.transb
        gxs = []
        for i in target_input_indexes:
            if i == 0:
                g = MatMul(tb, True).on(b, gy) if ta else MatMul(False, not tb).on(gy, b)
            else:
                g = MatMul(True, ta).on(gy, a) if tb else MatMul(not ta, False).on(a, gy)
            gxs.append(summed_to(g, self.inputs[i].shape))
        return gxs


def matmul(a: Variable | Array, b: Variable | Array, transa: bool = False, transb: bool = False) -> Variable:
    """Matrix product by NumPy's rules: vectors count as a row on the left and a column on the right.

    Args:
        a: (…, n, k), or (k,).
        b: (…, k, m), or (k,).
        transa: a is (…, k, n); no effect on a vector.
        transb: b is (…, m, k); no effect on a vector.

    Returns:
        (…, n, m), without the axis of a vector.

    Raises:
        InvalidType: the inner lengths differ, the leading axes do not broadcast, or an argument is a scalar.
    """
    for name, x in (("a", a), ("b", b)):
        if not hasattr(x, "dtype") or x.ndim == 0:
            raise refuse("matmul", name, "an array with one or more axes", describe(x))
    a, b = of_one_dtype(a, b)
    if a.ndim > 1 and b.ndim > 1:
        return MatMul(transa, transb).apply((a, b))[0]
    row, column = a.ndim == 1, b.ndim == 1
    if row:
        a, transa = reshape(a, (1, -1)) if a.size else reshape(a, (1, 0)), False
    if column:
        b, transb = reshape(b, (-1, 1)) if b.size else reshape(b, (0, 1)), False
    y = MatMul(transa, transb).apply((a, b))[0]
    shape = y.shape[:-2] + (() if row else y.shape[-2:-1]) + (() if column else y.shape[-1:])
    return reshape(y, shape)


install(matmul=matmul)
