"""From the array in a file to the value an object asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from distrain import backend
from distrain.errors import SerializationError
from distrain.serializers.archive import Header

_ORDER = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}  # a number goes into the same kind or a wider one


def unfit(header: Header, value: Any) -> str | None:
    """Why an entry cannot be read into a value; None if it can.

    Args:
        header: of the entry.
        value: what the object passed.

    Raises:
        SerializationError: values of that type cannot be read at all.
    """
    if value is None or header.is_pickled:  # reading tells what is wrong with pickled arrays
        return None
    if _is_array(value):
        if header.shape != value.shape:
            return f"shape {header.shape} in the file, {value.shape} in the object"
        if not np.can_cast(header.dtype, value.dtype, "same_kind"):
            return f"dtype {header.dtype} in the file, {value.dtype} in the object"
        return None
    if isinstance(value, (list, tuple)):
        return None if header.shape else f"a single {header.dtype} in the file, a {type(value).__name__} in the object"
    if header.size != 1:
        return f"shape {header.shape} in the file, a single {type(value).__name__} in the object"
    if isinstance(value, (str, bytes)):
        fits = header.dtype.kind == ("U" if isinstance(value, str) else "S")
    elif isinstance(value, (bool, int, float, complex, np.number, np.bool_)):
        kind = np.asarray(value).dtype.kind
        fits = _ORDER.get(header.dtype.kind, 9) <= _ORDER[kind]
    else:
        raise SerializationError(
            f"a {type(value).__name__} cannot be read from a file; pass an array, a number, a string or None"
        )
    return None if fits else f"dtype {header.dtype} in the file, {type(value).__name__} in the object"


def fill(value: Any, array: np.ndarray) -> Any:
    """What an object gets for the value it passed.

    Args:
        value: an array is filled in place; of a number, string, list or tuple only the type matters; None takes all.
        array: the entry of the file; `unfit` found nothing wrong with it.
    """
    if Header(array.shape, array.dtype).is_none:
        return None
    if value is None:
        return array.item() if array.ndim == 0 and array.dtype.kind == "U" else array.copy()
    if _is_array(value):
        backend.copyto(value, array)
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(array.tolist())
    return type(value)(array.item())


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or backend.is_gpu_array(value)
