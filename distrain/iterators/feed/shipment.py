"""A dataset's way to the feeders of its rank: pickled once into anonymous memory that they inherit.

Big arrays inside the dataset lie beside the pickle, and every feeder maps the same pages; so does the rank, if its
arrays are plain memory (see `pages`). A dataset of a gigabyte is there once, however many feeders read it. What a
feeder writes into its arrays stays its own. Arrays that are mapped files are opened again. The memory is sealed once it
is filled; it is never a file that has a name, nor anything that came over a socket.
"""

from __future__ import annotations

import fcntl
import io
import mmap
import os
import pickle
import struct
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any

import cloudpickle
import numpy as np

from distrain.errors import FeedError, TransferError
from distrain.iterators.feed.pages import address_of, move_to_file

_NUMBER = struct.Struct("<Q")
_SEALS = 1 | 2 | 4 | 8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE


_ADVICE = (
    "Open files, connections and locks where they are first needed, in __getitem__, or leave them out in __getstate__; "
    "or use MultithreadIterator or SerialIterator, which read in this process."
)


def ship(cargo: Any, name: str, purpose: str = "the processes that read it", advice: str = _ADVICE) -> int:
    """Puts an object into anonymous memory.

    Args:
        cargo: what the feeders get; classes and functions of the user's script, and lambdas, travel by value.
        name: what the errors call it, such as "dataset".
        purpose: whom they call its receivers.
        advice: what they say to do about a part that cannot be pickled.

    Returns:
        A file descriptor, to be closed by the caller.

    Raises:
        TransferError: something in it cannot be pickled; the message says where.
        FeedError: there is too little memory.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    try:
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(cargo)
    except Exception as error:
        raise TransferError(_explain(cargo, name, purpose, error, advice)) from error
    pickled = stream.getbuffer()
    raws = [buffer.raw() for buffer in buffers]
    places, end = _places(pickled, raws)
    fd = os.memfd_create("distrain-dataset", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        numbers = [len(places), *(number for place in places for number in place)]
        move_to_file(memoryview(struct.pack(f"<{len(numbers)}Q", *numbers)), fd, 0)
        for part, (at, _) in zip((pickled, *raws), places, strict=True):
            move_to_file(part, fd, at)
        os.ftruncate(fd, end)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(fd)
        size = (len(pickled) + sum(map(len, raws))) / 2**20
        raise FeedError(f"the {name} takes {size:,.1f} MiB of shared memory, which cannot be had: {error}") from error
    return fd


def unship(fd: int) -> Any:
    """The object in such memory. Its big arrays are views of the memory, and copies are made where they are changed."""
    memory = memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    (count,) = _NUMBER.unpack_from(memory)
    numbers = struct.unpack_from(f"<{2 * count}Q", memory, _NUMBER.size)
    parts = [memory[at : at + length] for at, length in zip(numbers[::2], numbers[1::2], strict=True)]
    return pickle.loads(parts[0], buffers=parts[1:])


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Opens mapped files anew instead of copying what is in them; code remembers its file, for tracebacks."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is CodeType:
            _, arguments = self.dispatch_table[CodeType](value)
            return _code, (value.co_filename, arguments)
        if type(value) is np.memmap and value.flags.c_contiguous and (offset := _offset_in_file(value)) is not None:
            mode = "c" if value.flags.writeable else "r"
            return np.memmap, (value.filename, value.dtype, mode, offset, value.shape)
        return super().reducer_override(value)


def _code(filename: str, arguments: tuple[Any, ...]) -> CodeType:
    return CodeType(*arguments).replace(co_filename=filename)


def _offset_in_file(array: np.memmap[Any, Any]) -> int | None:
    """Where in its file the array begins; None if that cannot be told."""
    root: Any = array
    while isinstance(root, np.memmap) and not isinstance(root.base, mmap.mmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None:
        return None
    return int(root.offset) + int(array.ctypes.data) - int(root.ctypes.data)


def _places(pickled: memoryview, raws: Sequence[memoryview]) -> tuple[list[tuple[int, int]], int]:
    """Offset and length of each part in the memory, and where it ends.

    A part begins where its bytes do within a page, so that its pages can change places with those of the file.
    """
    at = _NUMBER.size * (2 * len(raws) + 3)
    places = []
    for part in (pickled, *raws):
        at = -(-at // mmap.PAGESIZE) * mmap.PAGESIZE + address_of(part) % mmap.PAGESIZE
        places.append((at, len(part)))
        at += len(part)
    return places, max(at, 1)


def _explain(cargo: Any, name: str, purpose: str, error: Exception, advice: str) -> str:
    path, culprit = _culprit(cargo, name, 6)
    return (
        f"the {name} cannot travel to {purpose}: {path} is a {type(culprit).__module__}.{type(culprit).__qualname__} "
        f"({type(error).__name__}: {error}). {advice}"
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
        _Pickler(io.BytesIO(), protocol=5, buffer_callback=lambda buffer: None).dump(value)
    except Exception:
        return False
    return True
