"""Windows along one axis, as `kernel` shifted views of the array: pooling is a reduction over such views.

A pooling window is a product of two ranges, so it is reduced first along the width and then along the height: kh + kw
passes over views instead of kh * kw, and never an array of windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distrain.backend import Array, get_array_module
from distrain.functions import scratch
from distrain.functions.connection.im2col import Pair, Windows


def shifts(x: Array, axis: int, kernel: int, stride: int, count: int) -> list[Array]:
    """Views of x: the k-th holds the k-th element of every window.

    Args:
        x: (N, C, h, w).
        axis: 2 or 3.
        kernel: elements of a window.
        stride: steps from one window to the next.
        count: number of windows.
    """
    head = (slice(None),) * axis
    return [x[(*head, slice(k, k + stride * (count - 1) + 1, stride))] for k in range(kernel)]


def reduce(parts: Sequence[Array], ufunc: Callable[..., Array]) -> Array:
    """The arrays joined by a function of two arguments; always a new array."""
    if len(parts) == 1:
        return parts[0].copy()
    y = ufunc(parts[0], parts[1])
    for part in parts[2:]:
        ufunc(y, part, out=y)
    return y


def spread(
    gy: Array, axis: int, kernel: int, stride: int, length: int, masks: Sequence[Array] | None, name: str | None = None
) -> Array:
    """The adjoint of `shifts`: an array whose shifted views got gy added, each where its mask says.

    Args:
        gy: (N, C, h, w), with as many elements along the axis as there are windows.
        axis: 2 or 3.
        kernel: elements of a window.
        stride: steps from one window to the next.
        length: of the result along the axis.
        masks: bool, shape of gy, one an element of the window; None means everywhere.
        name: of a scratch buffer to use for the result; None makes a new array.
    """
    xp = get_array_module(gy)
    count = gy.shape[axis]
    shape = (*gy.shape[:axis], length, *gy.shape[axis + 1 :])
    apart = kernel <= stride  # no element in two windows: write instead of add
    gx = xp.empty(shape, gy.dtype) if name is None else scratch.empty(xp, name, shape, gy.dtype)
    if not (kernel == stride and count * stride == length):
        gx.fill(0)
    for k, part in enumerate(shifts(gx, axis, kernel, stride, count)):
        if not apart:
            part += gy if masks is None else gy * masks[k]
        elif masks is None:
            part[...] = gy
        else:
            xp.multiply(gy, masks[k], out=part)
    return gx


def enclosed(x: Array, windows: Windows, count: Pair, value: float) -> Array:
    """x with a border of `value`, of exactly the height and width that the windows cover.

    Args:
        x: (N, C, h, w).
        windows: kernel, stride and padding.
        count: rows and columns of windows.
        value: what lies outside of x.
    """
    height, width = windows.covered(count)
    (top, left), (h, w) = windows.pad, x.shape[2:]
    if not (top or left) and height <= h and width <= w:
        return x[:, :, :height, :width]
    y = get_array_module(x).full((*x.shape[:2], height, width), value, x.dtype)
    inside = y[:, :, top : top + h, left : left + w]
    inside[...] = x[:, :, : inside.shape[2], : inside.shape[3]]
    return y


def released(y: Array, windows: Windows, size: Pair) -> Array:
    """The adjoint of `enclosed`: the part of y that lies on an image of that size; the rest of the image is zero."""
    (top, left), (h, w) = windows.pad, size
    inside = y[:, :, top : top + h, left : left + w]
    if inside.shape[2:] == size:
        return inside
    x = get_array_module(y).zeros((*y.shape[:2], h, w), y.dtype)
    x[:, :, : inside.shape[2], : inside.shape[3]] = inside
    return x
