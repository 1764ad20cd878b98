"""A minibatch: the list of examples that a converter expects, already collated where the dataset allows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.backend import Array
from distrain.minibatch import Share


class Batch(Sequence[Any]):
    """This rank's examples of one minibatch. Behaves like the list of them.

        batch = Batch(columns=(x, t))             # x: (N, …), t: (N,): example i is (x[i], t[i])
        batch = Batch([(x0, t0), (x1, t1)])       # the examples themselves
        len(batch), batch[0], batch[-1], batch[2:5], [t for x, t in batch], batch == [(x0, t0), (x1, t1)]

    Examples of a batch with columns are views into them. The columns belong to whoever holds the batch: the iterator
    never writes to them again.

    Args:
        examples: list of examples; not given when `columns` is.
        columns: an array, a tuple of arrays or a dict of arrays, with the samples on axis 0 of each.
        share: which part of the job's minibatch this is; None where each rank's batch is its own.
        indices: `(N,)` integers, the positions of the examples in the dataset, if known.

    Attributes:
        columns: the arrays, or None for a batch made of examples. `concat_examples` hands them over uncopied.
        share: as given.
        indices: as given.
    """

    __slots__ = ("_examples", "columns", "indices", "share")

    def __init__(
        self,
        examples: list[Any] | None = None,
        *,
        columns: Any = None,
        share: Share | None = None,
        indices: NDArray[np.intp] | None = None,
    ) -> None:
        self._examples = examples
        self.columns = columns
        self.share = share
        self.indices = indices

    @property
    def n_samples(self) -> int:
        """Samples of this rank; 0 where the batch holds a stand-in because there were fewer samples than ranks."""
        return len(self) if self.share is None else self.share.count

    @property
    def weight(self) -> float:
        """What a mean over this batch contributes to the mean over the job's minibatch."""
        return 1.0 if self.share is None else self.share.weight

    def __len__(self) -> int:
        if self._examples is not None:
            return len(self._examples)
        columns = self.columns
        if isinstance(columns, tuple):
            return len(columns[0]) if columns else 0
        if isinstance(columns, dict):
            return len(next(iter(columns.values()))) if columns else 0
        return 0 if columns is None else len(columns)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._examples is not None:
            return self._examples[index]
        columns = self.columns
        if isinstance(columns, tuple):
            return tuple([column[index] for column in columns])
        if isinstance(columns, dict):
            return {key: column[index] for key, column in columns.items()}
        if columns is None:
            raise IndexError("the batch is empty")
        return columns[index]

    def __iter__(self) -> Iterator[Any]:
        if self._examples is not None:
            return iter(self._examples)
        columns = self.columns
        if isinstance(columns, tuple):
            return zip(*columns, strict=True)
        if isinstance(columns, dict):
            return (self[i] for i in range(len(self)))
        return iter(() if columns is None else columns)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Batch, list)):
            return NotImplemented
        return len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]    # like a list

    def __repr__(self) -> str:
        return f"Batch({list(self)!r})"


def _same(a: Any, b: Any) -> bool:
    """Equality of examples, where an array counts as one value."""
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if hasattr(a, "shape") or hasattr(b, "shape"):
        return _same_arrays(a, b)
    return bool(a == b)


def _same_arrays(a: Array, b: Array) -> bool:
    return getattr(a, "shape", ()) == getattr(b, "shape", ()) and bool((a == b).all())
