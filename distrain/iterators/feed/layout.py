"""Where the columns of a minibatch lie in memory, and whether examples fit in (pure but for the arrays written to).

A layout is learned from one example. Examples that fit are written straight to their row of each column, in whichever
process reads them, and the columns are then what `concat_examples` would have made of the examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distrain import wire
from distrain.errors import WireError

ALIGNMENT = 64  # a cache line, and what vector instructions like
_LARGEST = 1 << 40
_MOST_COLUMNS = 1000  # the layout is in every message

_PLAIN: dict[type, str] = {bool: "|b1", int: "<i8", float: "<f8"}  # what numpy.asarray makes of Python's numbers
_PLAIN_TYPES = {dtype: kind for kind, dtype in _PLAIN.items()}


@dataclass(frozen=True)
class Column:
    """One element of all examples.

    Attributes:
        dtype: of the array, as NumPy writes it ("<f4").
        shape: of one example.
        is_plain: the examples hold Python numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    is_plain: bool = False

    @cached_property
    def np_dtype(self) -> np.dtype[Any]:
        """The dtype."""
        return np.dtype(self.dtype)

    @cached_property
    def row_nbytes(self) -> int:
        """Bytes of one example."""
        return math.prod(self.shape) * self.np_dtype.itemsize

    def fits(self, values: Sequence[Any]) -> bool:
        """Whether these elements may stand in the column."""
        if self.is_plain:
            kind = self._plain_type
            return all(type(value) is kind for value in values)
        dtype, shape = self.np_dtype, self.shape
        return all(
            isinstance(value, (np.ndarray, np.generic)) and value.dtype == dtype and value.shape == shape
            for value in values
        )

    @cached_property
    def _plain_type(self) -> type:
        return _PLAIN_TYPES[self.dtype]


@dataclass(frozen=True)
class Layout:
    """The columns of a minibatch.

    Attributes:
        kind: what an example is: "array" (one element), "tuple" or "dict".
        keys: of a dict, in order; empty otherwise.
        columns: one an element.
    """

    kind: Literal["array", "tuple", "dict"]
    keys: tuple[str, ...]
    columns: tuple[Column, ...]

    @cached_property
    def packed(self) -> bytes:
        """As bytes, for a message."""
        return wire.pack([self.kind, list(self.keys), [[c.dtype, list(c.shape), c.is_plain] for c in self.columns]])

    @cached_property
    def row_nbytes(self) -> int:
        """Bytes of one example."""
        return sum(column.row_nbytes for column in self.columns)

    def nbytes(self, rows: int) -> int:
        """Bytes that a minibatch takes, the gaps between columns included."""
        return sum(_aligned(rows * column.row_nbytes) for column in self.columns)

    def views(self, memory: NDArray[np.uint8], rows: int) -> list[NDArray[Any]]:
        """The columns of a minibatch, as views of its memory.

        Args:
            memory: `(nbytes(rows) or more,)`, aligned.
            rows: examples of the minibatch.
        """
        views, offset = [], 0
        for column in self.columns:
            views.append(np.ndarray((rows, *column.shape), column.np_dtype, memory, offset))
            offset += _aligned(rows * column.row_nbytes)
        return views

    def assembled(self, columns: Sequence[Any]) -> Any:
        """An array, or the tuple or dict of arrays, that examples of this kind are concatenated to."""
        if self.kind == "array":
            return columns[0]
        return tuple(columns) if self.kind == "tuple" else dict(zip(self.keys, columns, strict=True))

    def example(self, views: Sequence[NDArray[Any]], row: int) -> Any:
        """The example in a row, as the dataset gave it."""
        pairs = zip(self.columns, views, strict=True)
        return self.assembled([view[row].item() if column.is_plain else view[row] for column, view in pairs])

    def split(self, columns: Any) -> list[Any] | None:
        """The reverse of `assembled`; None if that is no such thing."""
        if self.kind == "array":
            return [columns] if isinstance(columns, np.ndarray) else None
        if self.kind == "tuple":
            return list(columns) if type(columns) is tuple and len(columns) == len(self.columns) else None
        if not isinstance(columns, dict) or tuple(columns) != self.keys:
            return None
        return list(columns.values())

    def write_example(self, views: Sequence[NDArray[Any]], row: int, example: Any) -> bool:
        """`write_examples` for a single one, in a third of the time."""
        values: Any = (example,)
        if self.kind == "tuple":
            if type(example) is not tuple or len(example) != len(self.columns):
                return False
            values = example
        elif self.kind == "dict":
            if type(example) is not dict or example.keys() != set(self.keys):
                return False
            values = [example[key] for key in self.keys]
        for column, view, value in zip(self.columns, views, values, strict=True):
            if column.is_plain:
                if type(value) is not column._plain_type:
                    return False
            elif (
                not isinstance(value, (np.ndarray, np.generic))
                or value.dtype != column.np_dtype
                or value.shape != column.shape
            ):
                return False
            try:
                view[row] = value
            except OverflowError:  # an integer of more than 64 bits
                return False
        return True

    def write_examples(self, views: Sequence[NDArray[Any]], start: int, examples: Sequence[Any]) -> bool:
        """Writes examples to rows `start …` of the columns; False, and nothing of use written, if one does not fit."""
        kind = self.kind
        if kind == "tuple":
            width = len(self.columns)
            if not all(type(example) is tuple and len(example) == width for example in examples):
                return False
        elif kind == "dict":
            keys = set(self.keys)
            if not all(type(example) is dict and example.keys() == keys for example in examples):
                return False
        for i, (column, view) in enumerate(zip(self.columns, views, strict=True)):
            if kind == "array":
                values = examples
            else:
                key: Any = i if kind == "tuple" else self.keys[i]
                values = [example[key] for example in examples]
            if not column.fits(values):
                return False
            if column.shape:
                for row, value in enumerate(values, start):
                    view[row] = value
                continue
            try:
                view[start : start + len(values)] = values
            except OverflowError:  # an integer of more than 64 bits
                return False
        return True

    def write_columns(
        self, views: Sequence[NDArray[Any]], start: int, columns: Any, count: int, with_plain: bool = False
    ) -> bool:
        """Writes collated examples to rows `start …`; False, and nothing written, if they do not fit.

        Args:
            views: the columns of the minibatch.
            start: the first row.
            columns: the examples.
            count: how many they are.
            with_plain: where a column is of Python numbers, theirs is known to be so too.
        """
        parts = self.split(columns)
        if parts is None:
            return False
        for column, part in zip(self.columns, parts, strict=True):
            if (
                not isinstance(part, np.ndarray)
                or (column.is_plain and not with_plain)
                or part.dtype != column.np_dtype
            ):
                return False
            if part.shape != (count, *column.shape):
                return False
        for view, part in zip(views, parts, strict=True):
            view[start : start + count] = part
        return True


def unpack_layout(data: bytes) -> Layout:
    """What `Layout.packed` has packed.

    Raises:
        WireError: it is no layout.
    """
    fields = wire.unpack(data)
    if not isinstance(fields, list) or len(fields) != 3 or not all(isinstance(f, list) for f in fields[1:]):
        raise WireError("a layout has a kind, keys and columns")
    kind, keys, columns = fields
    if kind not in ("array", "tuple", "dict") or not all(isinstance(key, str) for key in keys):
        raise WireError(f"a layout is of kind array, tuple or dict with keys of text, not {wire.shown(kind)}")
    if len(keys) != (len(columns) if kind == "dict" else 0) or (kind == "array" and len(columns) != 1):
        raise WireError(f"{len(keys)} keys and {len(columns)} columns make no {kind}")
    return Layout(kind, tuple(keys), tuple(_unpack_column(column) for column in columns))


def _unpack_column(fields: Any) -> Column:
    if not isinstance(fields, list) or len(fields) != 3 or type(fields[2]) is not bool:
        raise WireError("a column has a dtype, a shape, and whether its elements are Python numbers")
    dtype = wire.dtype_of(fields[0])
    if fields[2] and dtype.str not in _PLAIN_TYPES:
        raise WireError(f"Python numbers do not have dtype {dtype.str}")
    return Column(dtype.str, wire.shape_of(fields[1], _LARGEST), fields[2])


def layout_of(example: Any) -> Layout | None:
    """The layout that examples like this one fit in; None if their minibatch is no set of arrays of one shape each."""
    if type(example) is tuple:
        columns = [_column_of(element) for element in example]
        kind: Literal["array", "tuple", "dict"] = "tuple"
    elif type(example) is dict:
        if not all(type(key) is str for key in example):
            return None
        columns = [_column_of(element) for element in example.values()]
        kind = "dict"
    else:
        columns = [_column_of(example)]
        kind = "array"
    if not 0 < len(columns) <= _MOST_COLUMNS or any(column is None for column in columns):
        return None
    return Layout(kind, tuple(example) if kind == "dict" else (), tuple(c for c in columns if c is not None))


def layout_of_columns(columns: Any) -> Layout | None:
    """The layout of collated examples: an array, or a tuple or dict of arrays with the examples on axis 0."""
    if type(columns) is tuple:
        return layout_of(tuple(_first(column) for column in columns))
    if type(columns) is dict:
        return layout_of({key: _first(column) for key, column in columns.items()})
    return layout_of(_first(columns))


def _first(column: Any) -> Any:
    return column[0] if isinstance(column, np.ndarray) and len(column) and column.dtype.isnative else None


def _column_of(element: Any) -> Column | None:
    if type(element) in _PLAIN:
        return Column(_PLAIN[type(element)], (), True)
    if type(element) in (np.ndarray, np.memmap) or isinstance(element, np.generic):
        dtype = element.dtype
        # A batch of strings is as wide as its longest one, which only the whole batch tells; and what is concatenated
        # has the byte order of the machine.
        if dtype.kind in "biufcmM" and dtype.isnative:
            return Column(dtype.str, element.shape)
    return None


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
