"""Objects as bytes, on their way between the ranks of one job.

What msgpack and arrays can say exactly goes as these: None, bool, int, float, str, bytes, lists, tuples, dicts, arrays
of NumPy, and its numbers. Any other object is pickled as a whole: one with something else in it, with an integer of
more than 64 bits, or with the same list or array in two places, which only a pickle keeps the same.

    b"m", length of the message, the message, the numbers of the arrays one after another
    b"p", the pickle

Unpickling runs what the sender wants. So this is for ranks of one job, which run one program as one user.
"""

from __future__ import annotations

import enum
import io
import math
import pickle
import struct
from collections.abc import Callable
from types import NoneType
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from distrain.comm.header import flat_bytes
from distrain.errors import WireError

_HEAD = struct.Struct("<cQ")
_LEAVES = frozenset({NoneType, bool, int, float, str, bytes})
_DEPTH = 64  # lists in lists; msgpack and the recursion of Python come to more
_ROOM = 2**12  # bytes at first; msgpack would ask for a MiB, which a rank that reports an exhausted memory has not


class _Mark(enum.IntEnum):
    """What a list begins with that stands for something else. No list of a user does."""

    TUPLE, ARRAY, NUMBER = range(3)


_EXTENSIONS = {mark: msgpack.ExtType(mark, b"") for mark in _Mark}


def dumps(obj: Any) -> memoryview:
    """An object as bytes.

    Raises:
        Exception: whatever the pickler, or the object that it asks, raises.
    """
    if _is_plain(obj):
        arrays: list[NDArray[Any]] = []
        try:
            message = msgpack.packb(obj, default=_describer(arrays), strict_types=True, buf_size=_ROOM)
        except (ValueError, OverflowError):  # lone surrogates and too much for its lengths; integers beyond 64 bits
            pass
        else:
            parts = [_HEAD.pack(b"m", len(message)), message, *map(flat_bytes, arrays)]
            return memoryview(b"".join(parts))
    stream = io.BytesIO()
    stream.write(b"p")
    pickle.dump(obj, stream, pickle.HIGHEST_PROTOCOL)
    return stream.getbuffer()


def _is_plain(obj: Any) -> bool:
    """Whether it is made of what `dumps` can describe, each list, tuple, dict and array in one place only."""
    seen: set[int] = set()
    items = [obj]
    for _ in range(_DEPTH + 1):
        items = [item for item in items if type(item) not in _LEAVES]
        if not items:
            return True
        inner: list[Any] = []
        for item in items:
            kind = type(item)
            if kind is tuple and not item:  # of which there is one in all
                continue
            if kind is list or kind is tuple:
                inner += item
            elif kind is dict:
                inner += item.keys()
                inner += item.values()
            elif kind is np.ndarray:
                if _words_for(item.dtype) is None:
                    return False
            elif _is_number(item):
                continue
            else:
                return False
            if id(item) in seen:
                return False
            seen.add(id(item))
        items = inner
    return False


def _is_number(item: Any) -> bool:
    """Whether it is NumPy's, and dtype and bytes say all of it. NumPy's text is none: it loses zeros at its end."""
    if not isinstance(item, np.generic) or type(item) is not item.dtype.type:
        return False
    return item.dtype.kind in "biufcmM" and _words_for(item.dtype) is not None


def _words_for(dtype: np.dtype[Any]) -> Any:
    """A dtype in plain values, from which NumPy makes the same; None if there are none, as for Python objects."""
    if dtype.hasobject or dtype.itemsize == 0 or _says_more(dtype):
        return None
    words = dtype.descr if dtype.names is not None else dtype.str
    try:
        return words if np.dtype(words) == dtype else None
    except (TypeError, ValueError):  # of another package
        return None


def _says_more(dtype: np.dtype[Any]) -> bool:
    """Whether there is something about a dtype that equality leaves out."""
    inner = [field[0] for field in (dtype.fields or {}).values()]
    return dtype.metadata is not None or dtype.isalignedstruct or any(map(_says_more, inner))


def _describer(arrays: list[NDArray[Any]]) -> Callable[[Any], list[Any]]:
    """What tells msgpack of tuples, arrays and numbers; the arrays are collected."""

    def describe(item: Any) -> list[Any]:
        if type(item) is tuple:
            return [_EXTENSIONS[_Mark.TUPLE], *item]
        if isinstance(item, np.generic):
            return [_EXTENSIONS[_Mark.NUMBER], item.dtype.str, item.tobytes()]
        if isinstance(item, int):
            raise OverflowError(f"an integer of {item.bit_length()} bits")
        is_fortran = item.flags.fnc
        arrays.append(item.T if is_fortran else item)
        return [_EXTENSIONS[_Mark.ARRAY], _words_for(item.dtype), list(item.shape), is_fortran]

    return describe


def loads(data: memoryview) -> Any:
    """The object of which `dumps` made these bytes. Its arrays have memory of their own.

    Raises:
        WireError: the bytes are no such object.
        Exception: whatever unpickling raises.
    """
    kind = bytes(data[:1])
    if kind == b"p":
        return pickle.loads(data[1:])
    if kind != b"m" or len(data) < _HEAD.size:
        raise WireError(f"{len(data)} bytes that begin with {kind!r} are no object of another rank")
    _, length = _HEAD.unpack_from(data)
    restore = _restorer(data[_HEAD.size + length :])
    message = data[_HEAD.size : _HEAD.size + length]
    try:
        return msgpack.unpackb(message, strict_map_key=False, list_hook=restore, ext_hook=_mark)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"malformed object of {len(data)} bytes: {type(error).__name__}: {error}") from error


def _mark(code: int, content: bytes) -> _Mark:
    return _Mark(code)


def _restorer(numbers: memoryview) -> Callable[[list[Any]], Any]:
    """What makes the things that `_describer` told of out of its lists; takes the numbers of arrays in their order."""
    start = 0

    def restore(items: list[Any]) -> Any:
        nonlocal start
        mark = items[0] if items else None
        if type(mark) is not _Mark:
            return items
        if mark is _Mark.TUPLE:
            return tuple(items[1:])
        if mark is _Mark.NUMBER:
            return np.frombuffer(items[2], np.dtype(items[1]), 1)[0]
        array = _array(numbers[start:], *items[1:])
        start += array.nbytes
        return array

    return restore


def _array(numbers: memoryview, words: Any, shape: list[int], is_fortran: bool) -> NDArray[Any]:
    """An array of the first of these bytes."""
    dtype = np.dtype(words)
    nbytes = math.prod(shape) * dtype.itemsize
    if not 0 <= nbytes <= len(numbers):  # before any memory is taken
        raise ValueError(f"{len(numbers)} bytes are too few for an array of {dtype!s} {tuple(shape)}")
    array = np.empty(shape[::-1] if is_fortran else shape, dtype)
    array.reshape(-1).view(np.uint8)[...] = numbers[:nbytes]
    return array.T if is_fortran else array
