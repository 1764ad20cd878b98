"""Do the ranks share the same data? Compared once, when a training starts."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from distrain import backend
from distrain.comm import Communicator
from distrain.dataset.columns import columns_at, is_column
from distrain.errors import WorldError


def require_same_data(comm: Communicator, iterators: Mapping[str, Any]) -> None:
    """Compares the datasets whose minibatches the ranks share. A collective call.

    Ranks that read a list of files, or split a dataset at random, may end up with different ones; each would then train
    on its part of something else, and nothing would fail.

    Args:
        comm: the ranks.
        iterators: by the name that an error calls them. Those over a rank's own data are left out.

    Raises:
        WorldError: kind, length or some of the samples differ; on all ranks alike.
    """
    mine = {name: facts(iterator.dataset) for name, iterator in iterators.items() if _is_shared(iterator)}
    first, *others = comm.allgather_obj(mine)
    for rank, theirs in enumerate(others, start=1):
        for name in first.keys() & theirs.keys():
            for what, value in first[name].items():
                if theirs[name][what] != value:
                    raise WorldError(
                        f"the dataset of {name}: {what} {theirs[name][what]} on rank {rank}, but {value} on rank 0. "
                        "The ranks share each minibatch, so all need the same dataset in the same order: sort lists of "
                        "files, give random splits a seed, or scatter the data (multi_node.scatter_dataset)."
                    )


def facts(dataset: Any) -> dict[str, str]:
    """What is compared: class, length, and for arrays the checksum of three samples."""
    length = len(dataset)
    told = {"class": type(dataset).__qualname__, "length": str(length), "checksum": "unknown"}
    if length and (is_column(dataset) or type(dataset).__module__.startswith("distrain.datasets.")):
        columns = columns_at(dataset, np.array([0, length // 2, length - 1], np.intp))
        if columns is not None:
            told["checksum"] = f"{_checksum(_arrays(columns)):08x} of samples 0, {length // 2} and {length - 1}"
    return told


def _is_shared(iterator: Any) -> bool:
    dataset = getattr(iterator, "dataset", None)
    is_own = getattr(dataset, "is_scattered", False) or getattr(iterator, "_comm", None) is not None
    return hasattr(iterator, "global_batch_size") and not is_own


def _arrays(columns: Any) -> Iterable[Any]:
    if isinstance(columns, dict):
        return columns.values()
    return columns if isinstance(columns, tuple) else (columns,)


def _checksum(arrays: Iterable[Any]) -> int:
    checksum = 0
    for array in arrays:
        host: Any = np.ascontiguousarray(backend.to_cpu(array))
        checksum = zlib.crc32(f"{host.dtype.str} {host.shape}".encode(), checksum)
        checksum = zlib.crc32(host.tobytes(), checksum)
    return checksum
