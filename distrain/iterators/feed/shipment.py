"""A dataset's way to the feeders of its rank: pickled once into anonymous memory that they inherit.

Big arrays inside the dataset lie beside the pickle, and every feeder maps the same pages: a dataset of a gigabyte is
there once however many feeders read it. What a feeder writes into its arrays stays its own. The memory is sealed once
it is filled; it is never a file that has a name, nor anything that came over a socket.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import struct
from collections.abc import Iterator
from typing import Any

import cloudpickle

from distrain.errors import FeedError, TransferError

_ALIGNMENT = 4096
_LENGTH = struct.Struct("<Q")
_SEALS = 1 | 2 | 4 | 8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE
_WRITE_CHUNK = 1 << 26


def ship(cargo: Any, name: str) -> int:
    """Puts an object into anonymous memory.

    Args:
        cargo: what the feeders get; classes and functions of the user's script, and lambdas, travel by value.
        name: what the errors call it, such as "dataset".

    Returns:
        A file descriptor, to be closed by the caller.

    Raises:
        TransferError: something in it cannot be pickled; the message says where.
        FeedError: there is too little memory.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        pickled = cloudpickle.dumps(cargo, protocol=5, buffer_callback=buffers.append)
    except Exception as error:
        raise TransferError(_explain(cargo, name, error)) from error
    raws = [buffer.raw() for buffer in buffers]
    fd = os.memfd_create("distrain-dataset", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _write(fd, 0, struct.pack(f"<{len(raws) + 2}Q", len(raws), len(pickled), *map(len, raws)))
        at = _LENGTH.size * (len(raws) + 2)
        for part in (pickled, *raws):
            at = -(-at // _ALIGNMENT) * _ALIGNMENT
            _write(fd, at, part)
            at += len(part)
        os.ftruncate(fd, max(at, _ALIGNMENT))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(fd)
        size = (len(pickled) + sum(map(len, raws))) / 2**20
        raise FeedError(f"the {name} takes {size:,.1f} MiB of shared memory, which cannot be had: {error}") from error
    return fd


def unship(fd: int) -> Any:
    """The object in such memory. Its big arrays are views of the memory, and copies are made where they are changed."""
    memory = memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    (count,) = _LENGTH.unpack_from(memory)
    lengths = struct.unpack_from(f"<{count + 1}Q", memory, _LENGTH.size)
    parts = []
    at = _LENGTH.size * (count + 2)
    for length in lengths:
        at = -(-at // _ALIGNMENT) * _ALIGNMENT
        parts.append(memory[at : at + length])
        at += length
    return pickle.loads(parts[0], buffers=parts[1:])


def _write(fd: int, at: int, data: Any) -> None:
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    for start in range(0, len(view), _WRITE_CHUNK):
        chunk = view[start : start + _WRITE_CHUNK]
        done = 0
        while done < len(chunk):
            done += os.pwrite(fd, chunk[done:], at + start + done)


def _explain(cargo: Any, name: str, error: Exception) -> str:
    path, culprit = _culprit(cargo, name, 6)
    return (
        f"the {name} cannot travel to the processes that read it: {path} is a "
        f"{type(culprit).__module__}.{type(culprit).__qualname__} ({type(error).__name__}: {error}). Open files, "
        "connections and locks where they are first needed, in __getitem__, or leave them out in __getstate__; or use "
        "MultithreadIterator or SerialIterator, which read in this process."
    )


def _culprit(value: Any, path: str, depth: int) -> tuple[str, Any]:
    """The innermost part that cannot be pickled, and where it stands."""
    if depth:
        for step, part in _parts(value):
            if not _can_be_pickled(part):
                return _culprit(part, path + step, depth - 1)
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in list(value.items())[:1000]:
            yield f"[{key!r}]", part
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value[:1000]):
            yield f"[{i}]", part
    elif hasattr(value, "__closure__") and value.__closure__:
        for free, cell in zip(value.__code__.co_freevars, value.__closure__, strict=True):
            yield f"'s variable {free}", cell.cell_contents
    else:
        for attribute, part in getattr(value, "__dict__", {}).items():
            yield f".{attribute}", part


def _can_be_pickled(value: Any) -> bool:
    try:
        cloudpickle.dumps(value, protocol=5, buffer_callback=lambda buffer: None)
    except Exception:
        return False
    return True
