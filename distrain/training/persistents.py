"""Values of a model that are not trained, such as the running statistics of batch normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain import backend, reproducible
from distrain.backend import Array
from distrain.comm import Communicator


def floating_persistents(link: Any) -> list[Array]:
    """The floating-point arrays among the persistent values of a link, in the order of their registration."""
    values = [value for _, value in link.namedpersistents()]
    return [x for x in values if (isinstance(x, np.ndarray) or backend.is_gpu_array(x)) and x.dtype.kind == "f"]


def average_over_ranks(link: Any, comm: Communicator) -> None:
    """Replaces each floating persistent array by its mean over the ranks, in place.

    Each rank has followed the statistics of its own samples; the mean follows those of all. In reproducible mode the
    ranks have the same statistics already.
    """
    if comm.size == 1 or reproducible.shards():
        return
    for array in floating_persistents(link):
        comm.allreduce(array, out=array)
        array /= comm.size


def average_over_copies(main: Any, copies: Sequence[Any], weights: Sequence[float]) -> None:
    """Replaces the floating persistent arrays of a link by the weighted mean of its copies'.

    Args:
        main: the link to change.
        copies: links of the same structure, `main` possibly among them.
        weights: one a copy; their sum is 1.
    """
    columns = zip(*map(floating_persistents, copies), strict=True)
    for target, values in zip(floating_persistents(main), columns, strict=True):
        device = backend.get_device_from_array(target)
        total = sum(weight * device.send(value) for weight, value in zip(weights, values, strict=True))
        target[...] = total
