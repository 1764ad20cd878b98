"""From a list of examples to the arrays of a minibatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from distrain import backend
from distrain.backend import Array
from distrain.dataset.batch import Batch
from distrain.errors import ArgumentError, DatasetError

_Converter = TypeVar("_Converter", bound=Callable[..., Any])


def concat_examples(batch: Sequence[Any], device: Any = None, padding: Any = None) -> Any:
    """Stacks examples along a new first axis.

    Examples that are tuples give a tuple of arrays, dicts a dict of arrays, anything else one array. Python numbers
    become what `numpy.asarray` makes of them. A `Batch` that is collated already is handed over without a copy.

    Args:
        batch: `N` examples.
        device: where the arrays go, as `distrain.get_device` takes it; None leaves them where they are.
        padding: fills examples of different shapes up to the largest one. A number, or a tuple or dict of one number
            (or None) an element.

    Returns:
        Arrays of shape `(N, …)`.

    Raises:
        DatasetError: an empty batch; or an example that does not fit the first one: another shape (without `padding`),
            dtype, tuple length or set of keys. The message names the example.
    """
    if isinstance(batch, Batch) and batch.columns is not None and len(batch):
        return to_device(device, batch.columns)
    if not len(batch):
        raise DatasetError("the batch is empty: there are no examples to concatenate")
    first = batch[0]
    if isinstance(first, tuple):
        _check_structure(batch, tuple, len(first))
        paddings = _per_element(padding, range(len(first)), tuple)
        arrays: Any = tuple(
            [_concat([example[i] for example in batch], paddings[i], batch, f"element {i}") for i in range(len(first))]
        )
    elif isinstance(first, dict):
        _check_structure(batch, dict, first.keys())
        paddings = _per_element(padding, first, dict)
        arrays = {
            key: _concat([example[key] for example in batch], paddings[key], batch, f"element {key!r}") for key in first
        }
    else:
        arrays = _concat(list(batch), padding, batch, "")
    return to_device(device, arrays)


def to_device(device: Any, x: Any) -> Any:
    """Sends an array, or tuples, lists and dicts of arrays, to a device; None leaves them where they are."""
    return x if device is None else backend.get_device(device).send(x)


def converter() -> Callable[[_Converter], _Converter]:
    """Marks a function `(batch, device) -> arrays` as a converter; any such function is one.

    Kept so that code which writes `@converter()` runs.
    """
    return lambda function: function


def _per_element(padding: Any, keys: Any, kind: type[Any]) -> Any:
    if not isinstance(padding, kind):
        return {key: padding for key in keys}
    if kind is tuple:
        padding = dict(enumerate(padding))
    if set(padding) != set(keys):
        raise ArgumentError(f"padding is given for elements {sorted(padding)}, but an example has {sorted(keys)}")
    return padding


def _check_structure(batch: Sequence[Any], kind: type[Any], shape: Any) -> None:
    for i, example in enumerate(batch):
        if not isinstance(example, kind):
            raise DatasetError(
                f"{_place(batch, i)} is a {type(example).__name__}, but {_place(batch, 0)} is a {kind.__name__}. "
                "The examples of a batch must have one structure."
            )
        if kind is tuple and len(example) != shape:
            raise DatasetError(
                f"{_place(batch, i)} has {len(example)} elements, but {_place(batch, 0)} has {shape}. "
                "The examples of a batch must have one structure."
            )
        if kind is dict and example.keys() != shape:
            raise DatasetError(
                f"{_place(batch, i)} has the keys {list(example)}, but {_place(batch, 0)} has {list(shape)}. "
                "The examples of a batch must have one structure."
            )


def _place(batch: Sequence[Any], i: int) -> str:
    known = isinstance(batch, Batch) and batch.indices is not None
    return f"example {i} of the batch" + (f" (sample {int(batch.indices[i])} of the dataset)" if known else "")  # type: ignore[attr-defined]


def _concat(values: list[Any], padding: Any, batch: Sequence[Any], element: str) -> Array:
    first = values[0]
    if not hasattr(first, "dtype") or isinstance(first, (np.str_, np.bytes_)):  # Python numbers, lists, strings
        if padding is None:
            return _stack_plain(values, batch, element)
        values = [np.asarray(value) for value in values]
    xp = backend.get_array_module(values[0])
    _check_arrays(values, padding, batch, element)
    if padding is not None:
        return _pad(values, padding, xp)
    if first.ndim == 0 and xp is np:
        return np.array(values, first.dtype)  # several times faster than stack for scalars
    return xp.stack(values)


def _stack_plain(values: list[Any], batch: Sequence[Any], element: str) -> Array:
    try:
        array = np.asarray(values)
    except ValueError:
        array = None
    if array is None or array.dtype == object:
        shapes = [_shape(value) for value in values]
        what = f"{element} of " if element else ""
        for i, shape in enumerate(shapes):
            if shape is None:
                raise DatasetError(f"{what}{_place(batch, i)} is a {type(values[i]).__name__}, which no array can hold")
            if shape != shapes[0]:
                raise DatasetError(
                    f"{what}{_place(batch, i)} has shape {shape}, but {_place(batch, 0)} has {shapes[0]}. "
                    "Give concat_examples padding=… to fill the smaller ones up."
                )
        raise DatasetError(f"{what}{_place(batch, 0)} is a {type(values[0]).__name__}, which does not fit the others")
    return array


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        return None
    return None if array.dtype == object else array.shape


def _check_arrays(values: list[Any], padding: Any, batch: Sequence[Any], element: str) -> None:
    dtype, shape = values[0].dtype, values[0].shape
    for i, value in enumerate(values):
        fits = getattr(value, "dtype", None) == dtype
        if fits and (value.shape == shape if padding is None else value.ndim == len(shape)):
            continue
        what = f"{element} of " if element else ""
        if not hasattr(value, "dtype"):
            raise DatasetError(
                f"{what}{_place(batch, i)} is a {type(value).__name__}, but that of {_place(batch, 0)} is an array of "
                f"dtype {dtype}. Return the same kind for every sample."
            )
        if value.dtype != dtype:
            raise DatasetError(
                f"{what}{_place(batch, i)} has dtype {value.dtype}, but {_place(batch, 0)} has {dtype}. "
                "Convert the samples to one dtype in the dataset, with astype."
            )
        mend = "Reshape them in the dataset"
        if value.ndim == len(shape):
            mend = "Give concat_examples padding=… to fill the smaller ones up"
        raise DatasetError(
            f"{what}{_place(batch, i)} has shape {value.shape}, but {_place(batch, 0)} has {shape}. {mend}."
        )


def _pad(values: list[Any], padding: Any, xp: Any) -> Array:
    shape = tuple(max(lengths) for lengths in zip(*(value.shape for value in values), strict=True))
    result = xp.full((len(values), *shape), padding, dtype=values[0].dtype)
    for i, value in enumerate(values):
        result[(i, *(slice(length) for length in value.shape))] = value
    return result
