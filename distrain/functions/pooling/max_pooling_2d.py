"""Maximum of each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable
from distrain.backend import Array, get_array_module
from distrain.functions.connection.convolution_2d import IntOrPair
from distrain.functions.connection.im2col import Pair, Windows, pair
from distrain.functions.pooling.pooling_2d import Pooling2D
from distrain.functions.pooling.shifts import enclosed, reduce, released, shifts, spread


class MaxPooling2D(Pooling2D):
    """See `max_pooling_2d`."""

    name = "max_pooling_2d"
    chosen: _Chosen | None = None

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        xp = get_array_module(x)
        (kh, kw), (sh, sw) = self.windows.kernel, self.windows.stride
        count = self.count(x)
        self.retain_inputs((0,))
        self.retain_outputs((0,))
        padded = enclosed(x, self.windows, count, -xp.inf)
        self.wide = reduce(shifts(padded, 3, kw, sw, count[1]), xp.maximum)
        return (reduce(shifts(self.wide, 2, kh, sh, count[0]), xp.maximum),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        if self.chosen is None:
            self.chosen = self._choose()
        return (MaxPooling2DGrad(self.chosen).on(grad_outputs[0]),)

    def _choose(self) -> _Chosen:
        x: Array = self._input_data[0]
        y: Array = self._output_data[0]
        (kh, kw), (sh, sw) = self.windows.kernel, self.windows.stride
        count = y.shape[2:]
        padded = enclosed(x, self.windows, count, -get_array_module(x).inf)
        across = _first_equal(shifts(padded, 3, kw, sw, count[1]), self.wide)
        down = _first_equal(shifts(self.wide, 2, kh, sh, count[0]), y)
        return _Chosen(self.windows, x.shape[2:], across, down)


def _first_equal(parts: Sequence[Array], best: Array) -> list[Array]:
    """For each part, where it is the first to equal `best`. The last takes what is left, so NaN finds a place."""
    masks: list[Array] = []
    free = None
    for part in parts[:-1]:
        mask = part == best
        if free is None:
            free = ~mask
        else:
            mask &= free
            free &= ~mask
        masks.append(mask)
    masks.append(get_array_module(best).ones(best.shape, bool) if free is None else free)
    return masks


class _Chosen:
    """Which element of each window was the maximum: the first in reading order, if several were.

    Args:
        windows: kernel, stride and padding.
        size: height and width of the image.
        across: for each column of the window, where it held the maximum of a row of the window.
        down: for each row of the window, where it held the maximum.
    """

    def __init__(self, windows: Windows, size: Pair, across: list[Array], down: list[Array]) -> None:
        self.windows, self.size, self.across, self.down = windows, size, across, down

    def scatter(self, gy: Array) -> Array:
        """Puts each element of gy, (N, C, oh, ow), where its maximum was; (N, C, h, w)."""
        (kh, kw), (sh, sw) = self.windows.kernel, self.windows.stride
        height, width = self.windows.covered(gy.shape[2:])
        tall = spread(gy, 2, kh, sh, height, self.down, "tall")
        return released(spread(tall, 3, kw, sw, width, self.across), self.windows, self.size)

    def gather(self, x: Array) -> Array:
        """Takes from x, (N, C, h, w), what stands where the maxima were; (N, C, oh, ow)."""
        xp = get_array_module(x)
        (kh, kw), (sh, sw) = self.windows.kernel, self.windows.stride
        count = self.down[0].shape[2:]
        padded = enclosed(x, self.windows, count, 0)
        wide = _where_true(shifts(padded, 3, kw, sw, count[1]), self.across, xp)
        return _where_true(shifts(wide, 2, kh, sh, count[0]), self.down, xp)


def _where_true(parts: Sequence[Array], masks: Sequence[Array], xp: Any) -> Array:
    return reduce([part * mask for part, mask in zip(parts, masks, strict=True)], xp.add)


class MaxPooling2DGrad(Primitive):
    """Puts gradients where the maxima were. Linear, with `MaxPooling2DGather` as its adjoint."""

    def __init__(self, chosen: _Chosen) -> None:
        self.chosen = chosen

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (self.chosen.scatter(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (MaxPooling2DGather(self.chosen).on(grad_outputs[0]),)


class MaxPooling2DGather(Primitive):
    """Takes what stands where the maxima were."""

    def __init__(self, chosen: _Chosen) -> None:
        self.chosen = chosen

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (self.chosen.gather(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (MaxPooling2DGrad(self.chosen).on(grad_outputs[0]),)


def max_pooling_2d(
    x: Any, ksize: IntOrPair, stride: IntOrPair | None = None, pad: IntOrPair = 0, cover_all: bool = True
) -> Variable:
    """Maximum of each window.

    Args:
        x: (N, C, h, w), floating point.
        ksize: height and width of a window; a number, or one for each axis.
        stride: steps from one window to the next; None means ksize.
        pad: rows and columns on each side that never win.
        cover_all: add a window over the edge where pixels would be left out.

    Returns:
        (N, C, oh, ow), dtype of x. Of several equal maxima the first in reading order gets the gradient.

    Raises:
        InvalidType: no window fits on x.
    """
    windows = Windows(pair(ksize), pair(ksize if stride is None else stride), pair(pad))
    return MaxPooling2D(windows, cover_all).apply1(x)
