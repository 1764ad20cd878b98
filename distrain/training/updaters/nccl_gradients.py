"""Gradients of several devices, each in a process of its own, summed by NCCL from GPU to GPU."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distrain import backend
from distrain.backend import Array, GpuDevice
from distrain.comm import nccl
from distrain.comm.gpu_sum import StagedSum
from distrain.comm.kinds import chosen_kind
from distrain.errors import DeviceError, WorldError
from distrain.training.updaters.group import Group
from distrain.training.updaters.shared import SharedArrays


def may_meet(devices: Sequence[Any]) -> bool:
    """Whether devices are several GPUs, no two the same, and the user has not chosen another way."""
    found = [backend.get_device(device) for device in devices]
    if len(found) < 2 or not all(isinstance(device, GpuDevice) for device in found):
        return False
    return len(set(found)) == len(found) and chosen_kind() in ("auto", "hierarchical", "nccl")


def meet(
    shared: SharedArrays, group: Group, device: Any, look: Callable[[], None] = lambda: None
) -> tuple[NcclGradients | None, str]:
    """Starts NCCL. All processes call it, and it starts for all of them or for none.

    Args:
        shared: of this process.
        group: the processes.
        device: of this process.
        look: see `NcclSum`.

    Returns:
        What sums the gradients; or None, and why it cannot be.
    """
    hosts = [socket.gethostname()] * group.Get_size()
    place = backend.get_device(device)
    with place:
        flats = _new_flats(shared, place)
        first = next(iter(flats.values()))
        problem = nccl.obstacle(group, hosts, first)
        if problem is not None:
            return None, str(problem)
        try:
            way = nccl.NcclSum(group, hosts, first, StagedSum(_refuse), look)
        except WorldError as error:
            return None, str(error)
    return NcclGradients(shared, flats, way), ""


def _new_flats(shared: SharedArrays, device: backend.Device) -> dict[str, Array]:
    """Arrays of all parameters of a dtype, float16 as float32."""
    return {
        dtype: device.xp.zeros(total, np.promote_types(dtype, np.float32)) for dtype, total in shared.totals.items()
    }


def _refuse(flat: Array) -> None:
    raise DeviceError(f"NCCL cannot sum gradients of {flat.dtype!s}; use float16, float32 or float64")


class NcclGradients:
    """The gradients of the parameters of one device, and NCCL for their sums.

    Args:
        shared: knows the parameters.
        flats: arrays as `meet` makes them.
        way: sums them.
    """

    def __init__(self, shared: SharedArrays, flats: dict[str, Array], way: nccl.NcclSum) -> None:
        self._shared, self._flats, self._way = shared, flats, way

    def sum(self, weight: float) -> None:
        """Adds up the weighted gradients of all devices. All of them call it.

        Args:
            weight: of the gradients of this device.

        Raises:
            WorldError: NCCL reports an error.
        """
        for param, place in self._shared.with_views(self._flats):
            if param.grad is None:
                place[...] = 0
            else:
                place[...] = param.grad
                place *= weight
        for flat in self._flats.values():
            self._way.allreduce(flat)

    def give(self) -> None:
        """Gives each parameter the sum; one that no device has a gradient for stays without."""
        for has, (param, total) in zip(self._shared.has_gradient(), self._shared.with_views(self._flats), strict=True):
            with np.errstate(over="ignore"):  # what is too large for float16 becomes infinite, as in `shared`
                param.grad = total.astype(param.dtype) if has else None

    def abort(self) -> None:
        """Ends NCCL, whatever the other processes do."""
        self._way.abort()
