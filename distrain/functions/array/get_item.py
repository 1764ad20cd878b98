"""Picking elements by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable
from distrain.autograd.operators import install
from distrain.autograd.type_check import describe, refuse
from distrain.backend import Array, get_array_module

Index = Any


class GetItem(Primitive):
    """See `get_item`."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        try:
            return (x[self.index],)
        except IndexError as error:
            raise refuse("get_item", "slices", f"an index into {describe(x)}", f"{self.index!r} ({error})") from error

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        x = self.inputs[0]
        return (GetItemGrad(self.index, x.shape, x.dtype).on(grad_outputs[0]),)


class GetItemGrad(Primitive):
    """Zeros with the gradient at the picked places, added up where a place was picked more than once."""

    def __init__(self, index: Index, shape: tuple[int, ...], dtype: Any) -> None:
        self.index = index
        self.shape = shape
        self.dtype = dtype

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (gy,) = inputs
        xp = get_array_module(gy)
        gx = xp.zeros(self.shape, self.dtype)
        if _may_repeat(self.index):
            xp.add.at(gx, self.index, gy)
        else:
            gx[self.index] = gy
        return (gx,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (GetItem(self.index).on(grad_outputs[0]),)


def _may_repeat(index: Index) -> bool:
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, list) or (hasattr(part, "ndim") and part.ndim > 0 and part.dtype.kind != "b"):
            return True
    return False


def get_item(x: Variable | Array, slices: Index) -> Variable:
    """The elements at an index: whatever NumPy takes, integer and bool arrays too.

    Raises:
        InvalidType: the index lies outside of the array.
    """
    if isinstance(slices, Variable):
        slices = slices.array
    elif isinstance(slices, tuple):
        slices = tuple([part.array if isinstance(part, Variable) else part for part in slices])
    return GetItem(slices).apply1(x)


def select_item(x: Variable | Array, t: Variable | Array) -> Variable:
    """Element `t[i]` of row i.

    Args:
        x: (N, K).
        t: (N,), integers in 0 … K - 1.

    Returns:
        (N,)

    Raises:
        InvalidType: the shapes do not fit, or an index lies outside of the row.
    """
    if x.ndim != 2 or t.shape != x.shape[:1]:
        raise refuse("select_item", "t", "shape (N,) for x of shape (N, K)", f"{t.shape} for {tuple(x.shape)}")
    return get_item(x, (get_array_module(t).arange(x.shape[0]), t))


install(getitem=get_item)
