"""Devices: where arrays live, and how they get there.

    device = distrain.get_device("@cupy:0")     # or 0, or "cuda:0"; -1, "@numpy" and "cpu" are the CPU
    device.use()
    model.to_device(device)
    x = device.send(x)

There may be several CPU devices ("cpu:0", "cpu:1" …). They share memory and differ in name only, so that code for
several devices runs and is tested on a machine without GPUs.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from distrain import cuda
from distrain.cuda import get_array_module as get_array_module
from distrain.cuda import is_gpu_array as is_gpu_array
from distrain.errors import DeviceError

Array: TypeAlias = Any
"""A NumPy or CuPy array. Shapes and dtypes stand in the docstrings."""


class Device:
    """A place for arrays.

    Attributes:
        xp: the array module of the device, `numpy` or `cupy`.
        name: how `get_device` finds it again.
    """

    xp: Any = np
    name: str

    def use(self) -> None:
        """Makes it the current device of this thread."""

    def send_array(self, array: Array) -> Array:
        """The array on this device; the same object if it is there already."""
        raise NotImplementedError

    def send(self, arrays: Any) -> Any:
        """An array, or tuples, lists and dicts of arrays, on this device.

        None, numbers and strings pass through unchanged.
        """
        if isinstance(arrays, (np.ndarray, np.generic)) or is_gpu_array(arrays):
            return self.send_array(arrays)
        if isinstance(arrays, tuple) and hasattr(arrays, "_fields"):  # a named tuple
            return type(arrays)(*[self.send(x) for x in arrays])
        if isinstance(arrays, (tuple, list)):
            return type(arrays)([self.send(x) for x in arrays])
        if isinstance(arrays, dict):
            return {key: self.send(x) for key, x in arrays.items()}
        return arrays

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class CpuDevice(Device):
    """Host memory."""

    def __init__(self, number: int = 0) -> None:
        self.name = "@numpy" if number == 0 else f"cpu:{number}"

    def send_array(self, array: Array) -> Array:
        """The array in host memory."""
        return cuda.to_cpu(array)


class GpuDevice(Device):
    """The memory of one GPU.

    Raises:
        DeviceError: there is no such GPU.
    """

    def __init__(self, number: int) -> None:
        self.device = cuda.get_device_from_id(number)
        self.xp = cuda.require_cupy()
        self.id = number
        self.name = f"@cupy:{number}"

    def use(self) -> None:
        """Makes it the current GPU of this thread."""
        self.device.use()

    def send_array(self, array: Array) -> Array:
        """The array on this GPU."""
        if is_gpu_array(array) and array.device.id == self.id:
            return array
        with self.device:
            return self.xp.array(array)  # asarray would leave an array of another GPU where it is

    def __enter__(self) -> Device:
        self.device.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.device.__exit__(kind, error, tb)


CPU = CpuDevice()

_SPEC = re.compile(r"@?(numpy|native|cpu|cupy|cuda|gpu)(?::(\d+))?")


def get_device(spec: Any) -> Device:
    """The device that a specification names.

    Args:
        spec: a number (negative: the CPU, else that GPU), a name ("@numpy", "cpu:1", "@cupy:0", "cuda:0"), a CuPy
            device, or a Device.

    Raises:
        DeviceError: the specification says nothing known, or there is no such GPU.
    """
    if isinstance(spec, Device):
        return spec
    if isinstance(spec, (int, np.integer)) and not isinstance(spec, bool):
        return CPU if spec < 0 else GpuDevice(int(spec))
    if isinstance(spec, cuda.DummyDevice):
        return CPU
    if isinstance(spec, str) and (found := _SPEC.fullmatch(spec)):
        number = int(found[2] or 0)
        return CpuDevice(number) if found[1] in ("numpy", "native", "cpu") else GpuDevice(number)
    if hasattr(spec, "id") and hasattr(spec, "use"):
        return GpuDevice(spec.id)
    raise DeviceError(
        f"{spec!r} names no device. Use -1 or '@numpy' for the CPU, 0, 1 … or '@cupy:0', '@cupy:1' … for a GPU."
    )


def get_device_from_array(*arrays: Array) -> Device:
    """The device that holds the first GPU array among the arguments; the CPU if there is none."""
    for array in arrays:
        inner: Array = getattr(array, "array", array)
        if is_gpu_array(inner):
            return GpuDevice(inner.device.id)
    return CPU


def to_cpu(arrays: Any) -> Any:
    """An array, or a nest of arrays, in host memory."""
    return CPU.send(arrays)


def copyto(destination: Array, source: Array) -> None:
    """Copies numbers into an existing array, from the same device or from another one."""
    if is_gpu_array(destination):
        if not is_gpu_array(source):
            source = source.astype(destination.dtype, copy=False)  # CuPy knows fewer dtypes than NumPy
        destination[...] = get_array_module(destination).asarray(source)
    else:
        np.copyto(destination, cuda.to_cpu(source), casting="unsafe")
