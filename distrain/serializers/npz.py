"""npz files in Chainer's layout: `updater/model:main/predictor/l1/W`.

Keys are joined with slashes and begin without one. Strings are unicode arrays of no dimension. None is an empty array
of a dtype of its own (`archive.NONE_DTYPE`). Chainer pickled None; such an entry is skipped with a warning.

Loading is in two steps. A rehearsal runs the object's `serialize` with a reader that gives every value back unchanged
and meanwhile reads and checks everything that is asked for. Only when nothing is missing, damaged or of another shape
does the second step fill the object, so a file that does not fit changes nothing. In between, what was read stays in
host memory.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Any, Self

import numpy as np

from distrain import backend
from distrain.errors import ArgumentError, SerializationError
from distrain.files import atomic_write
from distrain.serializers.archive import NONE_DTYPE, Archive, ArrayMapping, Source
from distrain.serializers.conversion import fill, unfit
from distrain.serializers.problems import Problems
from distrain.serializers.serializer import Deserializer, Serializable, Serializer

Ignore = str | Callable[[str], bool]
"""A whole key to leave alone, or a function that says so for a key."""


class DictionarySerializer(Serializer):
    """Collects the state of an object as host arrays in a dictionary.

    Host arrays are not copied: the dictionary shows the object as it is when the dictionary is written.

    Args:
        target: the dictionary to fill; a new one by default.
        path: what its keys begin with.
    """

    def __init__(self, target: dict[str, np.ndarray] | None = None, path: str = "") -> None:
        self.target: dict[str, np.ndarray] = {} if target is None else target
        self.path = path

    def __getitem__(self, key: str) -> Self:
        return type(self)(self.target, f"{self.path}{key.strip('/')}/")

    def __call__(self, key: str, value: Any) -> Any:
        """Puts one value into the dictionary.

        Raises:
            SerializationError: only pickle could write it.
        """
        key = self.path + key.lstrip("/")
        try:
            array = np.empty(0, NONE_DTYPE) if value is None else np.asarray(backend.to_cpu(value))
        except ValueError:  # a ragged list
            array = np.empty(0, object)
        if array.dtype.hasobject:
            raise SerializationError(
                f"the value of {key!r} is a {type(value).__name__} that only pickle could write; "
                f"hand over arrays, numbers, strings or None (json.dumps makes a string of anything simple)"
            )
        if isinstance(value, (str, bytes)) and array.item() != value:
            raise SerializationError(f"the value of {key!r} ends in a NUL, which arrays drop; hand over an uint8 array")
        self.target[key] = array
        return value


class NpzDeserializer(Deserializer):
    """Fills an object from the arrays of an npz file.

    Args:
        npz: an `Archive`, what `numpy.load` gave for an npz file, or a mapping from keys to arrays.
        path: the place in the file that belongs to the object, such as `updater/model:main`.
        strict: whether a missing key is an error. If not, what is missing stays as it is.
        ignore_names: a whole key (with its path) to leave alone, or a function that says so for a key, or a list of
            these.
    """

    def __init__(
        self,
        npz: Source | Mapping[str, Any],
        path: str = "",
        strict: bool = True,
        ignore_names: Ignore | list[Ignore] | tuple[Ignore, ...] | None = None,
    ) -> None:
        path = path.strip("/")
        self.npz = _as_source(npz)
        self.path = path + "/" if path else ""
        self.strict = strict
        self._is_silent = False
        if ignore_names is None:
            self.ignore_names: list[Ignore] = []
        else:
            self.ignore_names = list(ignore_names) if isinstance(ignore_names, (list, tuple)) else [ignore_names]
        self._problems: Problems | None = None  # of the load in progress
        self._rehearsing = False
        self._arrays: dict[str, np.ndarray] = {}  # read in the rehearsal, used up in the second step

    def __getitem__(self, key: str) -> Self:
        return self._at(f"{self.path}{key.strip('/')}/", self.strict)

    def lenient(self) -> Self:
        """The reader of the same place that leaves what is missing as it is; see `AbstractSerializer.lenient`."""
        return self._at(self.path, False)

    def optional(self) -> Self:
        """The reader of the same place that leaves what is missing as it is, without a warning."""
        other = self.lenient()
        other._is_silent = True
        return other

    def _at(self, path: str, strict: bool) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, path=path, strict=strict)
        return other

    def load(self, obj: Serializable) -> None:
        """Reads the state of an object; all or nothing, see the module.

        One warning names what a lenient place lacks, and one what only pickle could read.

        Raises:
            MismatchError: the file belongs to another object. The message lists every missing key, every key whose
                shape or type differs, and the surplus keys. Surplus keys alone are no error.
            CorruptFileError: an array that is asked for is damaged or pickled.
        """
        self._problems, self._arrays = Problems(), {}
        try:
            self._rehearse(obj)
            surplus = [key for key in self.npz.keys() if key.startswith(self.path) and key not in self._problems.asked]
            self._problems.raise_mismatch(self.npz, self.path, type(obj).__name__, surplus)
            obj.serialize(self)
            self._problems.warn(self.npz.name)
        finally:
            self._problems, self._arrays = None, {}

    def _rehearse(self, obj: Serializable) -> None:
        reader = self._at(self.path, self.strict)
        reader._rehearsing = True
        try:
            obj.serialize(reader)
        except (SerializationError, OSError):
            raise
        except Exception:  # noqa: S110  an object that cannot do without the real values; the second step is judge of it
            pass

    def __call__(self, key: str, value: Any) -> Any:
        """One value of the file.

        An array is filled in place and keeps its dtype and device. A number or string comes back in the type of
        `value`. None takes what is there: an array, a string, or None.

        Raises:
            MismatchError: the key is missing and the place is strict, or shape or type do not fit.
            CorruptFileError: the array is damaged, or pickled.
        """
        key = self.path + key.lstrip("/")
        problems = self._problems or Problems()
        problems.asked.add(key)
        if any(key == name if isinstance(name, str) else name(key) for name in self.ignore_names):
            return value
        if key not in self.npz:
            if not self._is_silent:
                (problems.missing if self.strict else problems.tolerated).append(key)
            return value if self._rehearsing or not self.strict else self._fail(problems)
        header = self.npz.header(key)
        if header.is_pickled and header.shape == ():  # Chainer's None, or nothing that can be known safely
            problems.unreadable.append(key)
            return value
        if not header.is_none and (reason := unfit(header, value)):
            problems.unfit[key] = reason
            return value if self._rehearsing else self._fail(problems)
        if self._rehearsing:
            self._arrays[key] = self.npz.read(key)
            return value
        array = self._arrays.pop(key, None)
        return fill(value, self.npz.read(key) if array is None else array)

    def _fail(self, problems: Problems) -> Any:
        problems.raise_mismatch(self.npz, self.path, "object that is being read", [])


def _as_source(npz: Source | Mapping[str, Any]) -> Source:
    if isinstance(npz, np.lib.npyio.NpzFile):
        assert npz.zip is not None, "the npz file is closed"
        return Archive(npz.zip, "the npz file")
    if isinstance(npz, Mapping):
        return ArrayMapping(npz)
    return npz


def save_npz(file: str | os.PathLike[str] | IO[bytes], obj: Serializable, compression: bool = True) -> None:
    """Writes the state of an object as an npz file.

    Given a path, the file takes its name only when it is complete and on disk; an older one stays until then.
    The bytes depend on the state alone, not on the time.

    Args:
        file: path, taken as it is (no suffix is added), or an open binary file.
        obj: anything with a `serialize` method.
        compression: deflate the arrays. Trained weights shrink by a tenth at best; False is many times faster.

    Raises:
        OSError: the path cannot be written, the disk is full …
        SerializationError: a value that only pickle could write.
    """
    serializer = DictionarySerializer()
    serializer.save(obj)
    if not isinstance(file, (str, os.PathLike)):
        _write(file, serializer.target, compression)
        return
    try:
        with atomic_write(file) as stream:
            _write(stream, serializer.target, compression)
    except OSError as error:
        error.filename = error.filename or os.fspath(file)  # a full disk does not say which file it was
        raise


def _write(stream: IO[bytes], arrays: Mapping[str, np.ndarray], compression: bool) -> None:
    method = zipfile.ZIP_DEFLATED if compression else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", method) as archive:
        for key, array in arrays.items():
            with archive.open(key + ".npy", "w", force_zip64=array.nbytes >= 2**31 - 2**20) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_npz(
    file: str | os.PathLike[str] | IO[bytes],
    obj: Serializable,
    path: str = "",
    strict: bool = True,
    ignore_names: Ignore | list[Ignore] | tuple[Ignore, ...] | None = None,
) -> None:
    """Fills an object from an npz file, one of Chainer's included. Nothing is unpickled.

    Args:
        file: path or an open, seekable binary file.
        obj: anything with a `serialize` method.
        path: the place in the file that belongs to the object; `updater/model:main` is the model in a snapshot of
            a trainer.
        strict: whether a missing key is an error. If not, what is missing stays as it is and one warning lists it.
        ignore_names: see `NpzDeserializer`.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: the file is truncated, damaged, no npz file, or holds pickled arrays.
        MismatchError: the file belongs to another object; missing and surplus keys are listed. The object is unchanged.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as stream:
            _load(stream, os.fspath(file), obj, path, strict, ignore_names)
    elif hasattr(file, "read"):
        _load(file, str(getattr(file, "name", "the npz file")), obj, path, strict, ignore_names)
    else:
        raise ArgumentError(f"load_npz reads a path or an open binary file, not {type(file).__name__}")


def _load(
    stream: IO[bytes],
    name: str,
    obj: Serializable,
    path: str,
    strict: bool,
    ignore_names: Ignore | list[Ignore] | tuple[Ignore, ...] | None,
) -> None:
    NpzDeserializer(Archive(stream, name), path, strict, ignore_names).load(obj)
