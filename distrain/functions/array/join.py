"""Joining arrays and splitting them: concat, stack, split_axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable
from distrain.autograd.type_check import describe, refuse
from distrain.backend import Array, get_array_module
from distrain.functions.array.shape import expand_dims, reshape


class Concat(Primitive):
    """See `concat`."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        if not in_types:
            raise refuse("concat", "xs", "one array or more", "none")
        first = in_types[0]
        _check_axis("concat", first, self.axis)
        axis = self.axis % first.ndim
        for i, x in enumerate(in_types):
            if x.dtype != first.dtype or _without(x.shape, axis) != _without(first.shape, axis):
                raise refuse(
                    "concat", f"xs[{i}]", f"like xs[0] except along axis {axis} ({describe(first)})", describe(x)
                )

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (get_array_module(*inputs).concatenate(inputs, axis=self.axis),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        lead = (slice(None),) * (self.axis % len(self.inputs[0].shape))
        ends = np.cumsum([x.shape[self.axis] for x in self.inputs]).tolist()
        starts = [0, *ends]
        return [gy[(*lead, slice(starts[i], ends[i]))] for i in target_input_indexes]


class SplitAxis(Primitive):
    """See `split_axis`."""

    def __init__(self, points: tuple[int, ...], axis: int) -> None:
        self.points = points
        self.axis = axis

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        return tuple(get_array_module(x).split(x, self.points, self.axis))

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        x = self.inputs[0]
        given = next(gy for gy in grad_outputs if gy is not None)
        xp = get_array_module(given)
        ends = [*self.points, x.shape[self.axis]]
        starts = [0, *self.points]
        parts = []
        for gy, start, end in zip(grad_outputs, starts, ends, strict=True):
            if gy is None:
                shape = list(x.shape)
                shape[self.axis] = end - start
                gy = xp.zeros(shape, x.dtype)
            parts.append(gy)
        return (Concat(self.axis).on(*parts),)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _check_axis(function: str, x: Any, axis: int) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise refuse(function, "axis", f"{-x.ndim} … {x.ndim - 1} for {x.ndim} axes", str(axis))


def concat(xs: Sequence[Variable | Array], axis: int = 1) -> Variable:
    """The arrays one behind the other along an axis.

    Args:
        xs: arrays of one dtype whose shapes differ along `axis` only.
        axis: the axis.

    Raises:
        InvalidType: shapes or dtypes differ, or there is no such axis.
    """
    return Concat(axis).apply(xs)[0]


def stack(xs: Sequence[Variable | Array], axis: int = 0) -> Variable:
    """Arrays of one shape side by side along a new axis.

    Raises:
        InvalidType: shapes or dtypes differ, or there is no such axis.
    """
    return concat([expand_dims(x, axis) for x in xs], axis)


def separate(x: Variable | Array, axis: int = 0) -> tuple[Variable, ...]:
    """The slices along an axis, without that axis; none if it has length 0.

    Raises:
        InvalidType: there is no such axis.
    """
    _check_axis("separate", x, axis)
    shape = list(x.shape)
    del shape[axis]
    length = x.shape[axis]
    pieces = SplitAxis(tuple(range(1, length)), axis).apply((x,)) if length else ()
    return tuple([reshape(y, tuple(shape)) for y in pieces])


def split_axis(
    x: Variable | Array, indices_or_sections: int | Sequence[int], axis: int, force_tuple: bool = True
) -> tuple[Variable, ...] | Variable:
    """Cuts an array into pieces along an axis.

    Args:
        x: the array.
        indices_or_sections: number of equal pieces, or the places of the cuts.
        axis: the axis.
        force_tuple: a tuple also where there is one piece only.

    Raises:
        InvalidType: the axis has no such length or is not there.
    """
    _check_axis("split_axis", x, axis)
    length = x.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        sections = int(indices_or_sections)
        if sections < 1 or length % sections:
            raise refuse("split_axis", "indices_or_sections", f"a divisor of axis length {length}", str(sections))
        points = [length // sections * i for i in range(1, sections)]
    else:
        points = [int(i) for i in indices_or_sections]
        if points != sorted(points) or any(not 0 <= i <= length for i in points):
            raise refuse("split_axis", "indices_or_sections", f"ascending cuts in 0 … {length}", str(points))
    ys = SplitAxis(tuple(points), axis).apply((x,))
    return ys if force_tuple or len(ys) > 1 else ys[0]
