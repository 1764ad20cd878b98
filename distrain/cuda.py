"""The one door to CuPy: nothing else in distrain imports it.

CuPy is imported when a GPU is first asked for, so that a machine without it runs everything on NumPy, and only a
request for a GPU ends in a `DeviceError` that says what is missing. On such a machine `available` is False.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distrain.errors import DeviceError

_INSTALL = "Install the extra for your CUDA version, `pip install distrain[cuda12]` or `distrain[cuda13]`"
_CPU = "or use device -1 (the CPU)"


def require_cupy() -> Any:
    """The module `cupy`, once it is sure that it works on this machine.

    Raises:
        DeviceError: CuPy is not installed, or there is no usable GPU or driver.
    """
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(f"a GPU was asked for, but CuPy cannot be imported ({error}). {_INSTALL}, {_CPU}.") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(f"a GPU was asked for, but CUDA reports: {error}. Check `nvidia-smi`, {_CPU}.") from error
    if count == 0:
        raise DeviceError(f"a GPU was asked for, but CUDA sees none. Check CUDA_VISIBLE_DEVICES, {_CPU}.")
    return cupy


def _is_available() -> bool:
    try:
        require_cupy()
    except DeviceError:
        return False
    return True


def __getattr__(name: str) -> Any:  # both cost an import of CuPy, which only those who ask should pay
    if name == "available":
        return _is_available()
    if name == "cupy":
        return require_cupy()
    raise AttributeError(f"module 'distrain.cuda' has no attribute {name!r}")


class DummyDevice:
    """The CPU where code written for GPUs expects a device: `use()` and `with` do nothing."""

    id = -1

    def use(self) -> None:
        """Does nothing."""

    def __enter__(self) -> DummyDevice:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DummyDevice)

    def __hash__(self) -> int:
        return hash(-1)


def get_device_from_id(device_id: int | None) -> Any:
    """The CUDA device of that number, or `DummyDevice` for None and negative numbers.

    Raises:
        DeviceError: there is no such GPU; the message says how many there are.
    """
    if device_id is None or device_id < 0:
        return DummyDevice()
    cupy = require_cupy()
    count = cupy.cuda.runtime.getDeviceCount()
    if device_id >= count:
        raise DeviceError(
            f"GPU {device_id} was asked for, but this process sees {count} (0 … {count - 1}). "
            "Check CUDA_VISIBLE_DEVICES."
        )
    return cupy.cuda.Device(device_id)


def get_device(*args: Any) -> Any:
    """The CUDA device of the first argument that is a number or a GPU array; `DummyDevice` if none is."""
    for arg in args:
        if isinstance(arg, (int, np.integer)) and not isinstance(arg, bool):
            return get_device_from_id(int(arg))
        if is_gpu_array(arg):
            return arg.device
    return DummyDevice()


def is_gpu_array(x: Any) -> bool:
    """Whether x is a CuPy array; does not import CuPy to find out."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def get_array_module(*args: Any) -> Any:
    """`cupy` if any argument is a CuPy array, or a Variable that holds one, else `numpy`."""
    cupy = sys.modules.get("cupy")
    if cupy is not None:
        for arg in args:
            if isinstance(getattr(arg, "array", arg), cupy.ndarray):
                return cupy
    return np


def to_gpu(array: Any, device: int | None = None) -> Any:
    """A copy of the array on a GPU (the current one if none is named); the same array if it is there already.

    Raises:
        DeviceError: there is no such GPU.
    """
    cupy = require_cupy()
    with DummyDevice() if device is None else get_device_from_id(device):
        if is_gpu_array(array) and device in (None, array.device.id):
            return array
        return cupy.array(array)  # asarray would leave an array of another GPU where it is


def to_cpu(array: Any) -> Any:
    """A copy of the array in host memory; the same array if it is there already."""
    return array.get() if is_gpu_array(array) else array


def pinned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised host array in page-locked memory, from which the GPU copies without waiting for the CPU.

    Raises:
        DeviceError: CuPy or a GPU is missing.
    """
    cupy = require_cupy()
    count = int(np.prod(shape, dtype=np.int64))
    memory = cupy.cuda.alloc_pinned_memory(max(1, count * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, count).reshape(shape)


def current_stream() -> Any:
    """The stream on which this thread's computations run, on the current GPU.

    Raises:
        DeviceError: CuPy or a GPU is missing.
    """
    return require_cupy().cuda.get_current_stream()


def new_stream() -> Any:
    """A stream of the current GPU that waits for no other.

    Raises:
        DeviceError: CuPy or a GPU is missing.
    """
    return require_cupy().cuda.Stream(non_blocking=True)


def bus_id(device_id: int) -> str:
    """Where in this machine the GPU of that number sits: the same for all processes, whatever number each gives it.

    Raises:
        DeviceError: CuPy or a GPU is missing.
    """
    return str(require_cupy().cuda.runtime.deviceGetPCIBusId(device_id))


def require_nccl() -> Any:
    """The module `cupy.cuda.nccl`, once it is sure that it works on this machine.

    Raises:
        DeviceError: CuPy, a GPU or NCCL is missing.
    """
    require_cupy()
    try:
        from cupy.cuda import nccl
    except ImportError as error:
        raise DeviceError(f"CuPy was built without NCCL ({error}); use DISTRAIN_COMM=staged.") from error
    if not getattr(nccl, "available", True):
        raise DeviceError(
            "CuPy does not find NCCL. Install it (`pip install nvidia-nccl-cu12`), or use DISTRAIN_COMM=staged."
        )
    return nccl
