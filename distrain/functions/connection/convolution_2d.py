"""Two-dimensional convolution, its transpose, and the gradient of its kernel.

Each of the three is bilinear, and the gradients of each are the other two, so all can be differentiated any number
of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable, type_check
from distrain.backend import Array
from distrain.functions.connection import im2col
from distrain.functions.connection.im2col import Pair, Windows, pair

IntOrPair = int | tuple[int, int]


class _Correlation(Primitive):
    """What the three have in common: how the kernel moves.

    Attributes:
        name: for messages.
        stride, pad, dilate, groups: as for `convolution_2d`.
    """

    name = ""

    def __init__(self, stride: Pair, pad: Pair, dilate: Pair, groups: int) -> None:
        self.stride, self.pad, self.dilate, self.groups = stride, pad, dilate, groups

    def windows(self, W_shape: Sequence[int]) -> Windows:
        return Windows((W_shape[2], W_shape[3]), self.stride, self.pad, self.dilate)

    def moves(self) -> tuple[Pair, Pair, Pair, int]:
        return self.stride, self.pad, self.dilate, self.groups

    def _check(self, in_types: tuple[Array, ...], in_axis: int, n_out_axis: int) -> None:
        x, W = in_types[:2]
        name, groups = self.name, self.groups
        for argument, array in (("x", x), ("W", W)):
            type_check.expect_float(name, argument, array)
            type_check.expect_ndim(name, argument, array, 4)
        if min(self.stride) < 1 or min(self.dilate) < 1 or min(self.pad) < 0 or groups < 1:
            expected = "stride, dilate and groups of at least 1, pad of at least 0"
            actual = f"stride={self.stride}, pad={self.pad}, dilate={self.dilate}, groups={groups}"
            raise type_check.refuse(name, "stride", expected, actual)
        if W.shape[0] % groups:
            raise type_check.refuse(name, "W", f"a multiple of groups={groups} on axis 0", type_check.describe(W))
        channels = W.shape[in_axis] * (groups if in_axis == 1 else 1)
        if x.shape[1] != channels:
            expected = f"{channels} channels (W has shape {W.shape}, groups={groups})"
            raise type_check.refuse(name, "x", expected, f"{x.shape[1]} channels ({type_check.describe(x)})")
        n_out = W.shape[n_out_axis] * (groups if n_out_axis == 1 else 1)
        if len(in_types) == 3 and in_types[2].shape != (n_out,):
            raise type_check.refuse(name, "b", f"shape {(n_out,)}", type_check.describe(in_types[2]))

    def _bias_gradient(self, gy: Any) -> Any:
        """Sum of gy over samples and positions, with the dtype of b."""
        dtype = self.inputs[2].dtype
        if isinstance(gy, Variable):
            gb = gy.sum(axis=(0, 2, 3))
            return gb if gb.dtype == dtype else gb.astype(dtype)
        wide = np.result_type(dtype, np.float32)  # float16 would lose the small addends
        gb = gy.sum(axis=(2, 3), dtype=wide).sum(axis=0, dtype=wide)
        return gb.astype(dtype, copy=False)


class Convolution2D(_Correlation):
    """See `convolution_2d`.

    Args:
        stride: as for `convolution_2d`.
        pad: as well.
        dilate: as well.
        groups: as well.
        count: rows and columns of windows; None computes them from `cover_all`.
        cover_all: as for `convolution_2d`.
    """

    name = "convolution_2d"

    def __init__(
        self, stride: Pair, pad: Pair, dilate: Pair, groups: int, count: Pair | None = None, cover_all: bool = False
    ) -> None:
        super().__init__(stride, pad, dilate, groups)
        self.count, self.cover_all = count, cover_all

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        self._check(in_types, in_axis=1, n_out_axis=0)
        x, W = in_types[:2]
        if min(W.shape[2:]) < 1 or min(self.windows(W.shape).count(x.shape[2:], self.cover_all)) < 1:
            expected = f"images that hold a kernel of {W.shape[2:]} (pad={self.pad}, dilate={self.dilate})"
            raise type_check.refuse(self.name, "x", expected, type_check.describe(x))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, W = inputs[:2]
        b = inputs[2] if len(inputs) == 3 else None
        self.retain_inputs((0, 1))
        windows = self.windows(W.shape)
        count = self.count or windows.count(x.shape[2:], self.cover_all)
        return (im2col.correlate(x, W, b, windows, self.groups, count),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x, W = self.kept_inputs(gy)
        gxs = []
        for i in target_input_indexes:
            if i == 0:
                gxs.append(Deconvolution2D(*self.moves(), x.shape[2:]).on(gy, W))
            elif i == 1:
                out = self.grad_buffer(1)
                gxs.append(Convolution2DGradW(*self.moves(), W.shape[2:], W.dtype, out).on(x, gy))
            else:
                gxs.append(self._bias_gradient(gy))
        return gxs


class Deconvolution2D(_Correlation):
    """See `deconvolution_2d`.

    Args:
        stride: as for `deconvolution_2d`.
        pad: as well.
        dilate: as well.
        groups: as well.
        size: height and width of the result; None takes the smallest possible.
    """

    name = "deconvolution_2d"

    def __init__(self, stride: Pair, pad: Pair, dilate: Pair, groups: int, size: Pair | None = None) -> None:
        super().__init__(stride, pad, dilate, groups)
        self.size = size

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        self._check(in_types, in_axis=0, n_out_axis=1)
        x, W = in_types[:2]
        windows = self.windows(W.shape)
        size = self.size or windows.image(x.shape[2:])
        if min(size) < 1 or x.shape[2:] not in (windows.count(size), windows.count(size, True)):
            expected = f"a size on which the windows number {x.shape[2:]} (smallest: {windows.image(x.shape[2:])})"
            raise type_check.refuse(self.name, "outsize", expected, f"{size}")

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, W = inputs[:2]
        self.retain_inputs((0, 1))
        windows = self.windows(W.shape)
        y = im2col.correlate_back(x, W, windows, self.groups, self.size or windows.image(x.shape[2:]))
        if len(inputs) == 3:
            y += inputs[2][:, None, None]
        return (y,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x, W = self.kept_inputs(gy)
        gxs = []
        for i in target_input_indexes:
            if i == 0:
                gxs.append(Convolution2D(*self.moves(), x.shape[2:]).on(gy, W))
            elif i == 1:
                out = self.grad_buffer(1)
                gxs.append(Convolution2DGradW(*self.moves(), W.shape[2:], W.dtype, out).on(gy, x))
            else:
                gxs.append(self._bias_gradient(gy))
        return gxs


class Convolution2DGradW(_Correlation):
    """The kernel's gradient: products of outputs and windows, summed over samples and windows.

    Inputs are x (N, C, h, w) and gy (N, O, oh, ow); the output is (O, C/groups, kh, kw).
    """

    name = "convolution_2d"

    def __init__(
        self, stride: Pair, pad: Pair, dilate: Pair, groups: int, kernel: Pair, dtype: Any, out: Array | None = None
    ) -> None:
        super().__init__(stride, pad, dilate, groups)
        self.kernel, self.dtype, self.out = kernel, dtype, out

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, gy = inputs
        self.retain_inputs((0, 1))
        windows = Windows(self.kernel, self.stride, self.pad, self.dilate)
        return (im2col.correlate_weights(x, gy, windows, self.groups, self.dtype, self.out),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (ggW,) = grad_outputs
        x, gy = self.kept_inputs(ggW)
        gxs = []
        for i in target_input_indexes:
            if i == 0:
                gxs.append(Deconvolution2D(*self.moves(), x.shape[2:]).on(gy, ggW))
            else:
                gxs.append(Convolution2D(*self.moves(), gy.shape[2:]).on(x, ggW))
        return gxs


def convolution_2d(
    x: Any,
    W: Any,
    b: Any = None,
    stride: IntOrPair = 1,
    pad: IntOrPair = 0,
    cover_all: bool = False,
    *,
    dilate: IntOrPair = 1,
    groups: int = 1,
) -> Variable:
    """Two-dimensional convolution (cross-correlation, as everywhere in the field).

    y[n, o, i, j] = b[o] + sum over c, k, l of x[n, c, i*sh + k*dh - ph, j*sw + l*dw - pw] * W[o, c, k, l]

    Args:
        x: (N, C, h, w).
        W: (O, C/groups, kh, kw).
        b: (O,), or None.
        stride: steps from one window to the next; a number, or one for each axis.
        pad: rows and columns of zeros on each side.
        cover_all: add a window over the edge where pixels would be left out.
        dilate: steps from one element of the kernel to the next.
        groups: input and output channels are split into that many groups; a group sees its own only.

    Returns:
        (N, O, oh, ow) with oh = (h + 2 ph - dh (kh - 1) - 1) // sh + 1; dtype of x.

    Raises:
        InvalidType: shapes do not fit.
    """
    function = Convolution2D(pair(stride), pair(pad), pair(dilate), groups, cover_all=cover_all)
    return function.apply((x, W) if b is None else (x, W, b))[0]


def deconvolution_2d(
    x: Any,
    W: Any,
    b: Any = None,
    stride: IntOrPair = 1,
    pad: IntOrPair = 0,
    outsize: tuple[int, int] | None = None,
    *,
    dilate: IntOrPair = 1,
    groups: int = 1,
) -> Variable:
    """Transposed two-dimensional convolution: the gradient of `convolution_2d` in its input.

    Args:
        x: (N, C, h, w).
        W: (C, O/groups, kh, kw).
        b: (O,), or None.
        stride: steps between the windows on the result.
        pad: rows and columns cut off on each side.
        outsize: (oh, ow), if a stride above 1 leaves a choice; None takes the smallest,
            sh (h - 1) + dh (kh - 1) + 1 - 2 ph.
        dilate: steps from one element of the kernel to the next.
        groups: as for `convolution_2d`.

    Returns:
        (N, O, oh, ow), dtype of x.

    Raises:
        InvalidType: shapes do not fit.
    """
    size = None if outsize is None else pair(outsize)
    function = Deconvolution2D(pair(stride), pair(pad), pair(dilate), groups, size)
    return function.apply((x, W) if b is None else (x, W, b))[0]
