"""Mean of each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable
from distrain.backend import Array, get_array_module
from distrain.functions.connection.convolution_2d import IntOrPair
from distrain.functions.connection.im2col import Pair, Windows, pair
from distrain.functions.pooling.pooling_2d import Pooling2D
from distrain.functions.pooling.shifts import enclosed, reduce, released, shifts, spread


class AveragePooling2D(Pooling2D):
    """See `average_pooling_2d`."""

    name = "average_pooling_2d"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        xp = get_array_module(x)
        (kh, kw), (sh, sw) = self.windows.kernel, self.windows.stride
        count = self.count(x)
        wide = reduce(shifts(enclosed(x, self.windows, count, 0), 3, kw, sw, count[1]), xp.add)
        y = reduce(shifts(wide, 2, kh, sh, count[0]), xp.add)
        y *= y.dtype.type(1 / (kh * kw))
        return (y,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        h, w = self.inputs[0].shape[2:]
        return (AveragePooling2DGrad(self.windows, (h, w)).on(grad_outputs[0]),)


class AveragePooling2DGrad(Primitive):
    """Spreads each gradient evenly over its window; the adjoint of `AveragePooling2D`."""

    def __init__(self, windows: Windows, size: Pair) -> None:
        self.windows, self.size = windows, size

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (gy,) = inputs
        (kh, kw), (sh, sw) = self.windows.kernel, self.windows.stride
        height, width = self.windows.covered(gy.shape[2:])
        tall = spread(gy * gy.dtype.type(1 / (kh * kw)), 2, kh, sh, height, None, "tall")
        return (released(spread(tall, 3, kw, sw, width, None), self.windows, self.size),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (AveragePooling2D(self.windows, cover_all=False).on(grad_outputs[0]),)


def average_pooling_2d(x: Any, ksize: IntOrPair, stride: IntOrPair | None = None, pad: IntOrPair = 0) -> Variable:
    """Mean of each window; padding counts as zeros.

    Args:
        x: (N, C, h, w), floating point.
        ksize: height and width of a window; a number, or one for each axis.
        stride: steps from one window to the next; None means ksize.
        pad: rows and columns of zeros on each side.

    Returns:
        (N, C, oh, ow) with oh = (h + 2 ph - kh) // sh + 1; dtype of x.

    Raises:
        InvalidType: no window fits on x.
    """
    windows = Windows(pair(ksize), pair(ksize if stride is None else stride), pair(pad))
    return AveragePooling2D(windows, cover_all=False).apply1(x)
