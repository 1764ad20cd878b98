"""The memory through which the processes of several devices hand over parameters and gradients.

One anonymous file that all of them map. Its parts, each an array a dtype:

    numbers             the parameters, written by the main process before a step
    gradients, flags    one row a device, written by that device's process at the end of its backward pass

Who writes and who reads is settled by the messages of `workers`, so there is no lock.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain import backend
from distrain.autograd import Parameter
from distrain.backend import Array
from distrain.errors import ArgumentError
from distrain.links import Link
from distrain.links.link import Structure

Layout = list[tuple[str, tuple[int, ...]]]
"""Dtype and shape of each parameter that has a size."""

_ALIGNMENT = 64


class SharedArrays:
    """Parameters and gradients of one model in shared memory.

    Args:
        model: of this process. All processes have the same one, as it was when the main process made the memory.
        n_devices: rows of gradients.
        fd: the file; None makes one.

    Attributes:
        fd: the file, to be closed by the caller once it is not needed for another process.

    Raises:
        OSError: there is too little memory.
    """

    def __init__(self, model: Link, n_devices: int, fd: int | None = None) -> None:
        self._model = model
        self._all: list[Parameter] = []
        self._version = -1
        self._layout = _layout(self._params())
        self._places: list[tuple[str, int, int]] = []  # of each parameter: dtype, start and stop in the array of that
        totals: dict[str, int] = {}
        for dtype, shape in self._layout:
            start = totals.get(dtype, 0)
            totals[dtype] = start + int(np.prod(shape))
            self._places.append((dtype, start, totals[dtype]))
        plan = [(dtype, total) for _ in range(n_devices + 1) for dtype, total in totals.items()]
        plan += [("|u1", n_devices * len(self._layout))]
        nbytes = sum(_padded(dtype, total) for dtype, total in plan)
        self.fd = _new_file(nbytes) if fd is None else fd
        arrays = list(_cut(mmap.mmap(self.fd, nbytes), plan))
        rows = [dict(zip(totals, arrays[i * len(totals) :], strict=False)) for i in range(n_devices + 1)]
        self._numbers, self._gradients = rows[0], rows[1:]
        self._flags = arrays[-1].reshape(n_devices, len(self._layout))

    def _params(self) -> list[Parameter]:
        """Those that have a size; looked up again when a model has changed."""
        if self._version != Structure.version:
            self._all, self._version = list(self._model.params()), Structure.version
        return [param for param in self._all if param.is_initialized]

    @property
    def totals(self) -> dict[str, int]:
        """By dtype, how many numbers all parameters of it have together."""
        return {dtype: flat.size for dtype, flat in self._numbers.items()}

    def with_views(self, row: Mapping[str, Array]) -> Iterator[tuple[Parameter, Array]]:
        """Each parameter with its place.

        Args:
            row: by dtype an array of as many elements as `totals` says; it may be of another dtype, and anywhere.

        Raises:
            ArgumentError: the model has other parameters by now.
        """
        params = self._params()
        if _layout(params) != self._layout:
            raise ArgumentError(
                "a parameter got its size, or was added, removed or changed, after the devices had begun to train. "
                "Give every parameter its size before, or use all of them for the first minibatch."
            )
        for param, (dtype, start, stop) in zip(params, self._places, strict=True):
            yield param, row[dtype][start:stop].reshape(param.shape)

    def write_numbers(self) -> None:
        """Hands out the parameters.

        Raises:
            ArgumentError: the model has other ones by now; so do the other methods.
        """
        for param, place in self.with_views(self._numbers):
            np.copyto(place, backend.to_cpu(param.array))

    def read_numbers(self) -> None:
        """Takes over what was handed out."""
        for param, place in self.with_views(self._numbers):
            backend.copyto(param.array, place)

    def write_gradients(self, row: int) -> None:
        """Puts the gradients of one device into its row; zeros for a parameter that has none."""
        self.write_flags(row)
        for param, place in self.with_views(self._gradients[row]):
            gradient = param.grad
            if gradient is None:
                place[...] = 0
            else:
                np.copyto(place, backend.to_cpu(gradient))

    def write_flags(self, row: int) -> None:
        """Says which parameters one device has gradients for."""
        for i, (param, _) in enumerate(self.with_views(self._numbers)):
            self._flags[row, i] = param.grad is not None

    def has_gradient(self) -> list[bool]:
        """For each parameter, whether any device has a gradient for it."""
        return [bool(flags.any()) for flags in self._flags.T]

    def sum_gradients(self, weights: Sequence[float]) -> None:
        """Gives each parameter the weighted sum over the devices, added up in their order.

        float16 is summed in float32 and rounded once. One that no device has a gradient for stays without.

        Args:
            weights: one a device.
        """
        sums = {dtype: self._sum(dtype, weights) for dtype in self._numbers}
        for has, (param, total) in zip(self.has_gradient(), self.with_views(sums), strict=True):
            param.grad = param.device.send(total) if has else None

    def _sum(self, dtype: str, weights: Sequence[float]) -> NDArray[Any]:
        wide = np.promote_types(dtype, np.float32)
        first, *others = [row[dtype] for row in self._gradients]
        total: NDArray[Any] = np.multiply(first, wide.type(weights[0]), dtype=wide)
        for gradient, weight in zip(others, weights[1:], strict=True):
            total += np.multiply(gradient, wide.type(weight), dtype=wide)
        with np.errstate(over="ignore"):  # what is too large for float16 becomes infinite, which loss scaling notices
            return total.astype(dtype, copy=False)


def _layout(params: list[Parameter]) -> Layout:
    return [(param.dtype.str, param.shape) for param in params]


def _new_file(nbytes: int) -> int:
    fd = os.memfd_create("distrain-gradients", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, nbytes)  # else a lack of memory shows as SIGBUS, in the middle of a step
    except OSError:
        os.close(fd)
        raise
    return fd


def _padded(dtype: str, count: int) -> int:
    return -(-max(1, count * np.dtype(dtype).itemsize) // _ALIGNMENT) * _ALIGNMENT


def _cut(memory: mmap.mmap, plan: list[tuple[str, int]]) -> Iterator[NDArray[Any]]:
    offset = 0
    for dtype, count in plan:
        yield np.frombuffer(memory, dtype, count, offset)
        offset += _padded(dtype, count)
