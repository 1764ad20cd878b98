"""Reading npz files that may be damaged or hostile.

An npz file is a zip of `.npy` members. Everything the file declares about itself is checked before memory is taken
for it, and nothing is ever unpickled:

- the zip directory: plain relative names, no name twice, stored or deflated, inside the file;
- a stored member is as large as its bytes, and a deflated one at most 1032 times that (the limit of the format: one
  bit pair can stand for 258 bytes), so a small file cannot declare gigabytes;
- the array header (parsed by NumPy's own reader) describes exactly the bytes that the directory declares;
- the checksum of the member, which zipfile compares at its last byte.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np

from distrain.errors import CorruptFileError

DEFLATE_LIMIT = 1032  # zlib's technical notes, "Maximum Compression Factor"
_AGAIN = "copy the file again from where it was written, or use an older one"
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
)

# None on disk: an empty array of this dtype. It needs no pickle, and no array of a model looks like it.
NONE_DTYPE = np.dtype([("None", np.bool_)])


@dataclass(frozen=True)
class Header:
    """What a member says it holds."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False

    @property
    def is_pickled(self) -> bool:
        """Whether only pickle could read it."""
        return self.dtype.hasobject

    @property
    def is_none(self) -> bool:
        """Whether it stands for None."""
        return self.shape == (0,) and self.dtype == NONE_DTYPE

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Source(Protocol):
    """Where a deserializer finds its arrays."""

    name: str

    def keys(self) -> Iterable[str]:
        """All keys, with their paths."""

    def __contains__(self, key: object) -> bool:
        """Whether there is such a key."""

    def header(self, key: str) -> Header:
        """Shape and dtype of an array, without reading it."""

    def read(self, key: str) -> np.ndarray:
        """The array, possibly read-only."""


class Archive:
    """The arrays of an npz file.

    Args:
        file: an open binary file, or an open ZipFile.
        name: how messages name the file.

    Raises:
        CorruptFileError: the file is no npz file, is truncated, or its directory is impossible.
    """

    def __init__(self, file: IO[bytes] | zipfile.ZipFile, name: str) -> None:
        self.name = name
        try:
            self._zip = file if isinstance(file, zipfile.ZipFile) else zipfile.ZipFile(file)
        except _DAMAGE as error:
            assert not isinstance(file, zipfile.ZipFile)
            raise CorruptFileError(f"{name} is not a whole npz file: {_kind(file) or error}; {_AGAIN}") from error
        self._members = self._directory()

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            if not info.filename.endswith(".npy"):  # a folder, or a file that somebody added
                continue
            key = info.filename.removesuffix(".npy")
            if key.startswith(("/", "\\")) or ".." in key.split("/") or key in members:
                raise CorruptFileError(
                    f"{self.name}: the member name {info.filename!r} is absolute, leaves the archive or is there "
                    f"twice, which no npz writer produces; do not use this file"
                )
            self._check_size(key, info)
            members[key] = info
        return members

    def _check_size(self, key: str, info: zipfile.ZipInfo) -> None:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise self._corrupt(key, "is encrypted or compressed in a way that npz files do not use")
        stored = info.compress_type == zipfile.ZIP_STORED
        end = info.header_offset + info.compress_size
        if info.header_offset < 0 or end > self._zip.start_dir:
            raise self._corrupt(
                key, f"lies at bytes {info.header_offset} to {end}, outside the {self._zip.start_dir} bytes of data"
            )
        most = info.compress_size * (1 if stored else DEFLATE_LIMIT)
        if info.file_size > most:
            raise self._corrupt(
                key, f"declares {info.file_size} bytes, but its {info.compress_size} bytes can hold {most} at most"
            )

    def keys(self) -> Iterable[str]:
        """All keys, in the order of the file."""
        return self._members.keys()

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def header(self, key: str) -> Header:
        """Shape and dtype of a member, checked against its size.

        Raises:
            CorruptFileError: the header cannot be parsed or does not fit the member.
        """
        try:
            with self._zip.open(self._members[key]) as stream:
                return self._header(key, stream)
        except CorruptFileError:
            raise
        except _DAMAGE as error:
            raise self._corrupt(key, f"is damaged ({error})") from error

    def read(self, key: str) -> np.ndarray:
        """One array, read-only.

        Raises:
            CorruptFileError: the member is damaged or only pickle could read it.
        """
        try:
            with self._zip.open(self._members[key]) as stream:
                header = self._header(key, stream)
                if header.is_pickled:
                    raise self._corrupt(
                        key,
                        "holds pickled objects, which are never unpickled",
                        "save it again as plain arrays, on a machine where you trust its origin",
                    )
                size = header.size * header.dtype.itemsize
                data = stream.read(size)  # with a size: a member that expands to more than it declares stays bounded
            if len(data) != size:
                raise self._corrupt(key, f"ends after {len(data)} of {size} bytes")
            return _as_array(header, data)
        except CorruptFileError:
            raise
        except _DAMAGE as error:
            raise self._corrupt(key, f"is damaged ({error})") from error

    def check(self) -> None:
        """Reads every array once, pickled ones excepted, and keeps none.

        Raises:
            CorruptFileError: one is damaged.
        """
        for key in self._members:
            if not self.header(key).is_pickled:
                self.read(key)

    def _header(self, key: str, stream: IO[bytes]) -> Header:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise self._corrupt(key, f"is in version {version} of the npy format; 1.0 and 2.0 can be read")
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = parse(stream)
        header = Header(shape, dtype, fortran)
        declared, there = header.size * dtype.itemsize, self._members[key].file_size - stream.tell()
        if dtype.itemsize == 0 or min(shape, default=0) < 0 or (declared != there and not header.is_pickled):
            raise self._corrupt(key, f"declares {dtype} of shape {shape}, {declared} bytes, but holds {there}")
        return header

    def _corrupt(self, key: str, what: str, todo: str = _AGAIN) -> CorruptFileError:
        return CorruptFileError(f"{self.name}: the array {key!r} {what}; {todo}")


class ArrayMapping:
    """Arrays in memory, as a source: what `DictionarySerializer` collected."""

    name = "the dictionary"

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = arrays

    def keys(self) -> Iterable[str]:
        """All keys."""
        return self._arrays.keys()

    def __contains__(self, key: object) -> bool:
        return key in self._arrays

    def header(self, key: str) -> Header:
        """Shape and dtype of an array."""
        array = np.asarray(self._arrays[key])
        return Header(array.shape, array.dtype)

    def read(self, key: str) -> np.ndarray:
        """The array itself.

        Raises:
            CorruptFileError: it holds Python objects.
        """
        array = np.asarray(self._arrays[key])
        if array.dtype.hasobject:
            raise CorruptFileError(f"{self.name}: the array {key!r} holds Python objects; hand over plain arrays")
        return array


def _as_array(header: Header, data: bytes) -> np.ndarray:
    if not data:
        return np.zeros(header.shape, header.dtype)  # frombuffer refuses an empty buffer
    array = np.frombuffer(data, header.dtype)
    return array.reshape(header.shape, order="F" if header.fortran else "C")


def _kind(file: IO[bytes]) -> str | None:
    """Names what people hand over by mistake."""
    file.seek(0, os.SEEK_SET)
    start = file.read(8)
    if not start:
        return "it is empty"
    if start.startswith(b"PK\x03\x04"):
        return "the end of the archive is missing, it is truncated"
    if start.startswith(b"\x93NUMPY"):
        return "it is a single npy array"
    if start.startswith(b"\x89HDF"):
        return "it is an HDF5 file"
    if start[0] == 0x80 and start[1:2] in b"\x02\x03\x04\x05":
        return "it is a pickle, which is never unpickled"
    return None
