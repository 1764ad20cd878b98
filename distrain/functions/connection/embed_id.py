"""Rows of a table by number (embedding)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable, type_check
from distrain.backend import Array, get_array_module


class EmbedID(Primitive):
    """See `embed_id`."""

    def __init__(self, ignore_label: int | None) -> None:
        self.ignore_label = ignore_label

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        x, W = in_types
        type_check.expect_integer("embed_id", "x", x)
        type_check.expect_float("embed_id", "W", W)
        type_check.expect_ndim("embed_id", "W", W, 2)
        if isinstance(x, np.ndarray):  # on a GPU the test would make the host wait for the device
            valid = (x >= 0) & (x < len(W))
            if self.ignore_label is not None:
                valid |= x == self.ignore_label
            if not valid.all():
                place = tuple(int(i) for i in np.argwhere(~valid)[0])
                expected = f"numbers in 0 … {len(W) - 1}"
                if self.ignore_label is not None:
                    expected += f", or ignore_label={self.ignore_label}"
                raise type_check.refuse("embed_id", "x", expected, f"{x[place]} at index {place}")

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, W = inputs
        self.retain_inputs((0,))
        if self.ignore_label is None:
            return (W[x],)
        xp = get_array_module(x)
        known = x != self.ignore_label
        return (xp.where(known[..., None], W[xp.where(known, x, 0)], W.dtype.type(0)),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x = self._input_data[0]
        shape = self.inputs[1].shape
        gW = EmbedIDGrad(shape, self.ignore_label, self.grad_buffer(1)).on(x, gy)
        return [gW if i == 1 else None for i in target_input_indexes]


class EmbedIDGrad(Primitive):
    """Adds the rows of gy to the rows of a zero table that x names."""

    def __init__(self, shape: tuple[int, ...], ignore_label: int | None, out: Array | None = None) -> None:
        self.shape, self.ignore_label, self.out = shape, ignore_label, out

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, gy = inputs
        self.retain_inputs((0,))
        xp = get_array_module(gy)
        rows, x = gy.reshape(x.size, self.shape[1]), x.reshape(-1)
        if self.ignore_label is not None:
            known = x != self.ignore_label
            rows, x = rows[known], x[known]
        gW = self.out if self.out is not None and self.out.dtype == gy.dtype else xp.empty(self.shape, gy.dtype)
        gW.fill(0)
        if not isinstance(gW, np.ndarray):
            xp.add.at(gW, x, rows)
        elif len(x):
            # Sorted, equal numbers are neighbours: sums of runs are several times faster than np.add.at on rows.
            order = np.argsort(x, kind="stable")
            numbers = x[order]
            starts = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
            gW[numbers[starts]] = np.add.reduceat(rows[order], starts, axis=0)
        return (gW,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (ggW,) = grad_outputs
        x = self._input_data[0]
        return [EmbedID(self.ignore_label).on(x, ggW) if i == 1 else None for i in target_input_indexes]


def embed_id(x: Any, W: Any, ignore_label: int | None = None) -> Variable:
    """The rows of W that x numbers.

    Args:
        x: any shape, integers in 0 … V - 1.
        W: (V, D).
        ignore_label: a number (often -1) whose row is zeros and gets no gradient.

    Returns:
        Shape of x with an axis of length D added, dtype of W.

    Raises:
        InvalidType: shapes or dtypes do not fit, or a number is out of range (on a GPU not checked).
    """
    return EmbedID(ignore_label).apply1(x, W)
