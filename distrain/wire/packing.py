"""Values as messages, and what a message may describe."""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np

from distrain.errors import WireError

MAX_FRAME = 1 << 26
"""Bytes of a frame that a socket accepts; longer payloads are cut into several."""

_MAX_ITEMS = 4096  # of one array or map: a header of five bytes must not make msgpack take gigabytes
_MAX_ELEMENTS = 1 << 40  # of an array
_DTYPE = re.compile(r"[<>|=]?[biufcSUmM][0-9]{1,9}(\[[0-9]{0,9}[A-Za-z]{1,2}\])?", re.ASCII)  # as numpy.dtype.str is


def pack(value: Any) -> bytes:
    """Plain values (None, bool, int, float, str, bytes, lists, dicts) as bytes.

    Raises:
        WireError: a value of another kind, or an integer of more than 64 bits.
    """
    try:
        return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"this cannot be sent: {error}") from error


def unpack(data: bytes | memoryview) -> Any:
    """What `pack` has packed.

    Raises:
        WireError: the bytes are no such message.
    """
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"malformed message of {len(data)} bytes: {type(error).__name__}: {error}") from error


def dtype_of(text: Any) -> np.dtype[Any]:
    """The dtype of an array that a message describes: numbers, fixed-length strings and times, never objects.

    Raises:
        WireError: it is none of these.
    """
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise WireError(f"arrays of dtype {shown(text)} cannot be received")
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{text!r} is no dtype") from error
    if dtype.itemsize > MAX_FRAME:
        raise WireError(f"an element of dtype {text!r} is larger than a frame")
    return dtype


def shape_of(value: Any, limit: int) -> tuple[int, ...]:
    """The shape of an array that a message describes.

    Args:
        value: what stands in the message.
        limit: the most elements that the array may have.

    Raises:
        WireError: it is no list of at most 32 sizes, or of more elements than the limit.
    """
    if not isinstance(value, list) or len(value) > 32 or any(type(size) is not int or size < 0 for size in value):
        raise WireError(f"a shape is a list of at most 32 sizes, not {shown(value)}")
    # A size of 0 makes the array small, but NumPy still refuses others that are too large.
    if math.prod(value) > limit or math.prod(size or 1 for size in value) > _MAX_ELEMENTS:
        raise WireError(f"an array of shape {value} has more elements than the {limit} that it may have")
    return tuple(value)


def shown(value: Any) -> str:
    """What a message holds, for an error: short, however long or nested it is."""
    if isinstance(value, (str, bytes)):
        return repr(value[:40])
    if isinstance(value, (int, float, type(None))):
        return repr(value)
    return f"a {type(value).__name__}"
