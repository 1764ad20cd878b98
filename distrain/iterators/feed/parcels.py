"""Examples of any shape as bytes: the way for what does not fit a layout.

An example may be made of arrays of numbers, NumPy scalars, Python numbers, strings, bytes, None, and tuples, lists and
dicts of these. Its arrays lie in a region of shared memory as long as that has room, and travel as frames otherwise;
what describes them is msgpack, and checked.

    node = value                         None, bool, int (64 bits), float, str, bytes
         | ["t", [node, …]]              tuple          | ["l", [node, …]]    list
         | ["d", [[key, node], …]]       dict, keys are str, int or bytes
         | ["a", dtype, shape, offset]   array in the region
         | ["f", dtype, shape, n, k]     array in the k frames from number n on
         | ["s", dtype, bytes]           NumPy scalar
         | ["i", text]                   int of more than 64 bits
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain import wire
from distrain.errors import TransferError, WireError
from distrain.iterators.feed.layout import ALIGNMENT

NO_REGION: NDArray[np.uint8] = np.empty(0, np.uint8)

_DEPTH = 32
_CHUNK = 1024  # elements of a list in one node, so that no header announces many
_MOST = 1 << 20  # elements of a list in all
_MOST_BITS = 13000  # of an int; a text of more than 4000 digits takes long to read


class Writer:
    """Writes examples.

    Args:
        region: `(nbytes,)`, where arrays go; of length 0 if there is none.

    Attributes:
        frames: the arrays that found no room, as bytes to send.
        spilled: bytes of these arrays.
    """

    def __init__(self, region: NDArray[np.uint8]) -> None:
        self.frames: list[Any] = []
        self.spilled = 0
        self._region = region
        self._used = 0

    def node(self, value: Any, path: str = "", depth: int = 0) -> Any:
        """The node of a value.

        Args:
            value: an example, or a part of one.
            path: where in the example it stands, for the error.
            depth: of that place.

        Raises:
            TransferError: there is no node for it.
        """
        kind = type(value)
        if value is None or kind in (bool, float, str, bytes):
            return value
        if kind is int:
            return self._integer(value, path)
        if kind in (np.ndarray, np.memmap):
            return self._array(value, path)
        if isinstance(value, np.generic) and value.dtype.kind in "biufcSUmM":
            return ["s", value.dtype.str, value.tobytes()[: value.dtype.itemsize]]  # an empty string has 4
        if depth == _DEPTH:
            raise TransferError(f"element {path} is nested more than {_DEPTH} deep")
        if kind in (tuple, list):
            if len(value) > _MOST:
                raise TransferError(f"{_named(path)} is a {kind.__name__} of {len(value)} elements; make it an array")
            nodes = [self.node(part, f"{path}[{i}]", depth + 1) for i, part in enumerate(value)]
            return ["t" if kind is tuple else "l", *_chunked(nodes)]
        if kind is dict:
            if len(value) > _MOST or not all(type(key) in (str, int, bytes) for key in value):
                raise TransferError(
                    f"{_named(path)} is a dict of {len(value)} keys; up to {_MOST} of str, int or bytes can travel"
                )
            pairs = [[key, self.node(part, f"{path}[{key!r}]", depth + 1)] for key, part in value.items()]
            return ["d", *_chunked(pairs)]
        raise TransferError(
            f"{_named(path)} is a {kind.__module__}.{kind.__qualname__}, which cannot travel to another process. "
            "Return arrays, numbers, strings, bytes, None, or tuples, lists and dicts of these from the dataset, or "
            "give the iterator a converter=…, which runs where the samples are read"
        )

    @staticmethod
    def _integer(value: int, path: str) -> Any:
        if -(2**63) <= value < 2**64:
            return value
        if value.bit_length() > _MOST_BITS:
            raise TransferError(f"{_named(path)} is an int of {value.bit_length()} bits; up to {_MOST_BITS} can travel")
        return ["i", str(value)]

    def _array(self, array: NDArray[Any], path: str) -> Any:
        if array.dtype.kind not in "biufcSUmM" or array.dtype.names is not None:
            raise TransferError(
                f"{_named(path)} is an array of dtype {array.dtype}, which cannot travel to another process; arrays of "
                "numbers, strings and times can"
            )
        shape, start = list(array.shape), -(-self._used // ALIGNMENT) * ALIGNMENT
        if start + array.nbytes <= len(self._region):
            np.ndarray(array.shape, array.dtype, self._region, start)[...] = array
            self._used = start + array.nbytes
            return ["a", array.dtype.str, shape, start]
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        first = len(self.frames)
        self.frames += _framed(data)
        self.spilled += array.nbytes
        return ["f", array.dtype.str, shape, first, len(self.frames) - first]

    def packed(self, value: Any) -> bytes:
        """The node of a whole example, packed.

        Raises:
            TransferError: there is no node for it, or a text in it is no Unicode.
        """
        node = self.node(value)
        try:
            return wire.pack(node)
        except WireError as error:
            raise TransferError(f"the example cannot travel to another process: {error.__cause__}") from error


def _named(path: str) -> str:
    return f"element {path}" if path else "the example"


def _framed(data: memoryview) -> list[memoryview]:
    """Bytes, cut so that a socket takes them."""
    return [data[at : at + wire.MAX_FRAME] for at in range(0, len(data), wire.MAX_FRAME)]


def _chunked(nodes: list[Any]) -> list[list[Any]]:
    return [nodes[at : at + _CHUNK] for at in range(0, len(nodes), _CHUNK)]


class Reader:
    """Reads what a `Writer` wrote.

    Args:
        region: the same memory, as this process sees it. Arrays that are read are views of it.
        frames: the frames that came along.
    """

    def __init__(self, region: NDArray[np.uint8], frames: Sequence[Any]) -> None:
        self._region = region
        self._frames = frames
        self._next = 0  # frame; each is read once, so that nothing grows by being named often

    def value(self, packed: bytes | memoryview) -> Any:
        """The value of a packed node.

        Raises:
            WireError: it is no node, or describes an array that is not there.
        """
        return self._value(wire.unpack(packed), 0)

    def _value(self, node: Any, depth: int) -> Any:
        if not isinstance(node, list):
            return node
        if not node or depth > _DEPTH:
            raise WireError("a node is empty, or nested too deep")
        tag, *fields = node
        if tag == "a" and len(fields) == 3:
            return self._in_region(*fields)
        if tag == "f" and len(fields) == 4:
            return self._in_frames(*fields)
        if tag == "s" and len(fields) == 2:
            return _scalar(*fields)
        if tag == "i" and len(fields) == 1 and isinstance(fields[0], str) and len(fields[0]) <= 4000:
            try:
                return int(fields[0])
            except ValueError as error:
                raise WireError(f"{wire.shown(fields[0])} is no number") from error
        if tag in ("t", "l", "d") and all(isinstance(chunk, list) for chunk in fields):
            parts = [part for chunk in fields for part in chunk]
            if tag == "d":
                return dict(self._pair(part, depth) for part in parts)
            values = [self._value(part, depth + 1) for part in parts]
            return tuple(values) if tag == "t" else values
        raise WireError(f"{wire.shown(tag)} with {len(fields)} fields is no node")

    def _pair(self, pair: Any, depth: int) -> tuple[Any, Any]:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) not in (str, int, bytes):
            raise WireError("an element of a dict has a key and a node")
        return pair[0], self._value(pair[1], depth + 1)

    def _in_region(self, dtype: Any, shape: Any, offset: Any) -> NDArray[Any]:
        found = wire.dtype_of(dtype)
        sizes = wire.shape_of(shape, len(self._region) // max(1, found.itemsize))
        nbytes = int(np.prod(sizes, dtype=np.int64)) * found.itemsize
        if type(offset) is not int or not 0 <= offset <= len(self._region) - nbytes or offset % ALIGNMENT:
            raise WireError(f"an array of {nbytes} bytes at {wire.shown(offset)} lies outside of its region")
        return np.ndarray(sizes, found, self._region, offset)

    def _in_frames(self, dtype: Any, shape: Any, first: Any, count: Any) -> NDArray[Any]:
        found = wire.dtype_of(dtype)
        if type(first) is not int or type(count) is not int or not 0 <= count <= len(self._frames) - self._next:
            raise WireError(f"{wire.shown(count)} frames of an array are not there")
        if first != self._next:
            raise WireError(f"the frames of an array begin with number {first}, but {self._next} comes next")
        self._next += count
        frames = [memoryview(frame) for frame in self._frames[first : first + count]]
        total = sum(frame.nbytes for frame in frames)
        sizes = wire.shape_of(shape, total // max(1, found.itemsize))
        if int(np.prod(sizes, dtype=np.int64)) * found.itemsize != total:
            raise WireError(f"an array of shape {sizes} and dtype {found} came with {total} bytes")
        if count == 1 and total and not frames[0].readonly:
            return np.frombuffer(frames[0], np.uint8).view(found).reshape(sizes)
        joined = np.empty(total, np.uint8)
        at = 0
        for frame in frames:
            joined[at : at + frame.nbytes] = np.frombuffer(frame, np.uint8)
            at += frame.nbytes
        return joined.view(found).reshape(sizes) if total else np.empty(sizes, found)


def _scalar(dtype: Any, data: Any) -> Any:
    found = wire.dtype_of(dtype)
    if not isinstance(data, bytes) or len(data) != found.itemsize:
        raise WireError(f"a number of dtype {found} does not have these bytes")
    if not data:  # an empty string
        return found.type()
    return np.frombuffer(data, found)[0]


def payload(writer: Writer, packed: Sequence[bytes]) -> list[Any]:
    """Packed examples and the frames of their arrays, as the frames of a message."""
    lengths = np.array([len(node) for node in packed], np.int64)
    return [lengths.tobytes(), *(_framed(memoryview(b"".join(packed))) or [memoryview(b"")]), *writer.frames]


def unpacked(region: NDArray[np.uint8], frames: Sequence[Any]) -> list[Any]:
    """The examples in such frames.

    Raises:
        WireError: they hold no examples.
    """
    if len(frames) < 2 or len(frames[0]) % 8:
        raise WireError("a payload begins with the lengths of its examples")
    lengths = np.frombuffer(frames[0], np.int64).tolist()
    total = sum(lengths)
    count = max(1, -(-total // wire.MAX_FRAME))
    if min(lengths, default=1) < 1 or sum(map(len, frames[1 : 1 + count])) != total:
        raise WireError(f"{len(lengths)} examples are not in the {len(frames) - 1} frames that came for them")
    packed = memoryview(frames[1] if count == 1 else b"".join(frames[1 : 1 + count]))
    reader = Reader(region, frames[1 + count :])
    values, at = [], 0
    for length in lengths:
        values.append(reader.value(packed[at : at + length]))
        at += length
    return values
