"""Convolution as matrix products: the three products of images, kernels and outputs that everything is made of.

The columns of an image are all its windows written side by side (im2col), so that a convolution is one matrix
product. They are kh * kw times the image, so they are made for a few samples at a time, in a buffer that stays in
the cache, and never kept.

With stride 1 the rows of windows are as wide as the padded image. Then the numbers that meet the kernel's element
(dy, dx) are one contiguous run of each image, which is copied several times faster than row by row; the columns at
the end of each row, windows that reach over the edge, are never read from a result and are zero in a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from distrain.backend import Array, get_array_module
from distrain.functions import parallel, scratch

Pair = tuple[int, int]
T = TypeVar("T")

_BLOCK = 2**18  # elements of a block of columns; 1 MiB of float32: the second level cache, and enough for BLAS
_GPU_BLOCK = 2**26


def pair(x: int | tuple[int, int]) -> Pair:
    """(x, x) for a number; a pair as it is."""
    return (x, x) if isinstance(x, int) else (int(x[0]), int(x[1]))


@dataclass(frozen=True)
class Windows:
    """The windows that a kernel visits on an image.

    Attributes:
        kernel: height and width of the kernel.
        stride: steps from one window to the next.
        pad: rows and columns of zeros on each side of the image.
        dilate: steps from one element of the kernel to the next.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilate: Pair = (1, 1)

    @property
    def reach(self) -> Pair:
        """Height and width of what a window covers, gaps included."""
        return (self.kernel[0] - 1) * self.dilate[0] + 1, (self.kernel[1] - 1) * self.dilate[1] + 1

    def count(self, size: Pair, cover_all: bool = False) -> Pair:
        """Rows and columns of windows on an image of that size; below 1 if none fits.

        Args:
            size: height and width of the image.
            cover_all: add a window that reaches over the edge where the last ones would leave something out.
        """
        free = [n + 2 * p - r for n, p, r in zip(size, self.pad, self.reach, strict=True)]
        if cover_all:
            free = [f + s - 1 for f, s in zip(free, self.stride, strict=True)]
        return free[0] // self.stride[0] + 1, free[1] // self.stride[1] + 1

    def image(self, count: Pair) -> Pair:
        """Height and width of the smallest image that has that many windows."""
        height, width = self.covered(count)
        return height - 2 * self.pad[0], width - 2 * self.pad[1]

    def covered(self, count: Pair) -> Pair:
        """Height and width of what that many windows cover."""
        return (count[0] - 1) * self.stride[0] + self.reach[0], (count[1] - 1) * self.stride[1] + self.reach[1]


class Columns:
    """Buffers for the columns of some samples.

    Attributes:
        images: (n, C, h, w) view of the padded images without the padding.
        matrix: (groups, C/groups * kh * kw, n * windows), the columns.
        fits: height and width of the part of an image that any window sees.
    """

    def __init__(self, xp: Any, dtype: Any, n: int, channels: int, size: Pair, windows: Windows, count: Pair) -> None:
        height, width = windows.covered(count)
        (kh, kw), (sh, sw), (dh, dw), (ph, pw) = windows.kernel, windows.stride, windows.dilate, windows.pad
        self.windows, self.count = windows, count
        self.dense = windows.stride == (1, 1)
        item = np.dtype(dtype).itemsize
        flat = channels * n * height * width
        # the last window of a row as wide as the image reaches over the end
        memory = scratch.empty(xp, "images", (flat + (kw - 1) * dw,), dtype)
        memory.fill(0)
        self.padded = memory[:flat].reshape(channels, n, height, width)
        self.fits = max(0, min(size[0], height - ph)), max(0, min(size[1], width - pw))
        self.images = self.padded[:, :, ph : ph + self.fits[0], pw : pw + self.fits[1]].transpose(1, 0, 2, 3)
        shape: tuple[int, ...] = (channels, kh, kw, n)
        strides: tuple[int, ...] = (n * height * width, dh * width, dw, height * width)
        if self.dense:
            shape, strides = (*shape, count[0] * width), (*strides, 1)
        else:
            shape, strides = (*shape, *count), (*strides, sh * width, sw)
        self.view = xp.lib.stride_tricks.as_strided(memory, shape, tuple([item * s for s in strides]))
        self.columns = scratch.empty(xp, "columns", shape, dtype)

    @property
    def row(self) -> int:
        """Columns of the matrix for one row of windows."""
        return self.padded.shape[3] if self.dense else self.count[1]

    def matrix(self, groups: int) -> Array:
        """The columns, (groups, C/groups * kh * kw, n * windows)."""
        c, kh, kw, n = self.columns.shape[:4]
        return self.columns.reshape(groups, c // groups * kh * kw, n * self.count[0] * self.row)

    def outputs(self, channels: int) -> tuple[Array, Array]:
        """A zero matrix (channels, n * windows), and its view (n, channels, oh, ow) without windows over the edge."""
        n = self.columns.shape[3]
        xp = get_array_module(self.columns)
        y = scratch.empty(xp, "outputs", (channels, n * self.count[0] * self.row), self.columns.dtype)
        y.fill(0)
        return y, y.reshape(channels, n, self.count[0], self.row)[..., : self.count[1]].transpose(1, 0, 2, 3)

    def fill(self, x: Array) -> None:
        """Makes the columns of the images x, (n, C, h, w)."""
        self.images[...] = x[:, :, : self.fits[0], : self.fits[1]]
        self.columns[...] = self.view

    def add_up(self, gx: Array) -> None:
        """The adjoint of `fill`: adds the columns to where they come from and writes the images to gx, (n, C, h, w)."""
        (kh, kw), (sh, sw), (dh, dw) = self.windows.kernel, self.windows.stride, self.windows.dilate
        oh, ow = self.count
        channels, n, height, width = self.padded.shape
        runs = self.padded.reshape(channels, n, height * width)
        length = (oh - 1) * width + ow
        self.padded.fill(0)
        for i in range(kh):
            for j in range(kw):
                if self.dense:
                    start = i * dh * width + j * dw
                    part, column = runs[:, :, start : start + length], self.columns[:, i, j, :, :length]
                else:
                    y, x = i * dh, j * dw
                    part = self.padded[:, :, y : y + sh * (oh - 1) + 1 : sh, x : x + sw * (ow - 1) + 1 : sw]
                    column = self.columns[:, i, j]
                part += column
        gx[:, :, : self.fits[0], : self.fits[1]] = self.images
        gx[:, :, self.fits[0] :] = 0
        gx[:, :, : self.fits[0], self.fits[1] :] = 0


def _blocks(
    like: Array, samples: slice, dtype: Any, channels: int, size: Pair, windows: Windows, count: Pair
) -> Iterator[Any]:
    """Slices of the samples, and columns for that many."""
    on_host = isinstance(like, np.ndarray)
    width = windows.covered(count)[1] if windows.stride == (1, 1) else count[1]
    each = channels * windows.kernel[0] * windows.kernel[1] * count[0] * width
    step = max(1, min(samples.stop - samples.start, (_BLOCK if on_host else _GPU_BLOCK) // max(1, each)))
    columns = None
    for start in range(samples.start, samples.stop, step):
        n = min(step, samples.stop - start)
        if columns is None or n != step:
            columns = Columns(get_array_module(like), dtype, n, channels, size, windows, count)
        yield slice(start, start + n), columns


def _share_out(function: Callable[[slice], T], like: Array, W_size: int, count: Pair) -> list[T]:
    """Calls a function on parts of the samples: several at a time on the CPU, all at once on a GPU."""
    total = like.shape[0]
    if not isinstance(like, np.ndarray):
        return [function(slice(0, total))]
    return parallel.each(function, total, total * W_size * count[0] * count[1])


def _working_dtype(*arrays: Array) -> Any:
    """The dtype to multiply in; NumPy has no fast product for float16."""
    dtype = np.result_type(*[x.dtype for x in arrays])
    return np.dtype(np.float32) if dtype.char == "e" and isinstance(arrays[0], np.ndarray) else dtype


def correlate(x: Array, W: Array, b: Array | None, windows: Windows, groups: int, count: Pair) -> Array:
    """y[n, o] = sum over c of x[n, c] * W[o, c] at every window.

    Args:
        x: (N, C, h, w).
        W: (O, C/groups, kh, kw).
        b: (O,), added to y; or None.
        windows: the windows on x.
        groups: output group g sees the input channels of group g only.
        count: (oh, ow), rows and columns of windows.

    Returns:
        (N, O, oh, ow), dtype of x.
    """
    xp = get_array_module(x)
    dtype = _working_dtype(x, W)
    n_out = W.shape[0]
    y = xp.empty((x.shape[0], n_out, *count), x.dtype)
    weights = xp.ascontiguousarray(W, dtype).reshape(groups, n_out // groups, -1)
    bias = None if b is None else b.astype(dtype, copy=False)[:, None, None]

    def run(samples: slice) -> None:
        buffer = None
        for part, columns in _blocks(x, samples, dtype, x.shape[1], (x.shape[2], x.shape[3]), windows, count):
            matrix = columns.matrix(groups)
            if buffer is None or buffer.shape[1] != matrix.shape[2]:
                buffer, view = columns.outputs(n_out)
            columns.fill(x[part])
            xp.matmul(weights, matrix, out=buffer.reshape(groups, n_out // groups, -1))
            if bias is None:
                y[part] = view
            else:
                xp.add(view, bias, out=y[part], casting="same_kind")

    _share_out(run, x, W.size, count)
    return y


def correlate_back(gy: Array, W: Array, windows: Windows, groups: int, size: Pair) -> Array:
    """The adjoint of `correlate` in x: every output is spread over its window.

    Args:
        gy: (N, O, oh, ow).
        W: (O, C/groups, kh, kw).
        windows: the windows on the result.
        groups: as for `correlate`.
        size: (h, w) of the result.

    Returns:
        (N, C, h, w), dtype of gy.
    """
    xp = get_array_module(gy)
    dtype = _working_dtype(gy, W)
    n_out, channels = W.shape[0], W.shape[1] * groups
    weights = xp.ascontiguousarray(W, dtype).reshape(groups, n_out // groups, -1).transpose(0, 2, 1)
    count = gy.shape[2], gy.shape[3]
    gx = xp.empty((gy.shape[0], channels, *size), gy.dtype)

    def run(samples: slice) -> None:
        buffer = None
        for part, columns in _blocks(gy, samples, dtype, channels, size, windows, count):
            matrix = columns.matrix(groups)
            if buffer is None or buffer.shape[1] != matrix.shape[2]:
                buffer, view = columns.outputs(n_out)
            view[...] = gy[part]
            xp.matmul(weights, buffer.reshape(groups, n_out // groups, -1), out=matrix)
            columns.add_up(gx[part])

    _share_out(run, gy, W.size, count)
    return gx


def correlate_weights(
    x: Array, gy: Array, windows: Windows, groups: int, dtype: Any, out: Array | None = None
) -> Array:
    """The adjoint of `correlate` in W: the products of outputs and windows, summed over samples and windows.

    Args:
        x: (N, C, h, w).
        gy: (N, O, oh, ow).
        windows: the windows on x.
        groups: as for `correlate`.
        dtype: dtype of the result.
        out: (O, C/groups, kh, kw), where the result is written if dtype and memory layout allow.

    Returns:
        (O, C/groups, kh, kw); `out` itself if it was used.
    """
    xp = get_array_module(x)
    working = _working_dtype(x, gy)
    n_out, channels = gy.shape[1], x.shape[1]
    shape = (n_out, channels // groups, *windows.kernel)
    count = gy.shape[2], gy.shape[3]
    if out is None or out.dtype != working or not out.flags.c_contiguous:
        out = xp.empty(shape, working)

    def run(samples: slice) -> Array:
        gW = xp.zeros((groups, n_out // groups, out.size // n_out), working)
        buffer = None
        for part, columns in _blocks(x, samples, working, channels, (x.shape[2], x.shape[3]), windows, count):
            matrix = columns.matrix(groups)
            if buffer is None or buffer.shape[1] != matrix.shape[2]:
                buffer, view = columns.outputs(n_out)
            columns.fill(x[part])
            view[...] = gy[part]
            gW += xp.matmul(buffer.reshape(groups, n_out // groups, -1), matrix.transpose(0, 2, 1))
        return gW

    first, *others = _share_out(run, x, out.size, count)
    for other in others:
        first += other
    out[...] = first.reshape(shape)
    return out.astype(dtype, copy=False)
