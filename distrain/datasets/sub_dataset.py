"""Parts of a dataset: splits, shards and the folds of a cross-validation. Nothing is copied."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distrain import rng
from distrain.dataset.columns import columns_at
from distrain.dataset.dataset_mixin import DatasetMixin
from distrain.errors import ArgumentError, DatasetError


class SubDataset(DatasetMixin):
    """The examples `start … finish - 1` of a dataset, or of an order of it.

    Args:
        dataset: the whole.
        start: position of the first example.
        finish: position after the last example.
        order: positions in `dataset`; `start` and `finish` then count in it. None is the dataset's own order.

    Raises:
        DatasetError: `start` and `finish` are outside the dataset, or `order` does not hold its positions.
    """

    def __init__(self, dataset: Any, start: int, finish: int, order: ArrayLike | None = None) -> None:
        length = len(dataset)
        if not 0 <= start <= finish <= length:
            raise DatasetError(f"examples {start} … {finish} of a dataset of {length} are not a part of it")
        self._dataset = dataset
        self._start = start
        self._finish = finish
        self._order = None if order is None else _checked(order, length)

    def __len__(self) -> int:
        return self._finish - self._start

    def get_example(self, i: int) -> Any:
        """The example at position `i` of this part."""
        position = self._start + i
        return self._dataset[position if self._order is None else int(self._order[position])]

    def columns_at(self, indices: NDArray[np.intp]) -> Any:
        """See `distrain.dataset.columns`."""
        if type(self).get_example is not SubDataset.get_example:
            return None
        positions = indices + self._start
        return columns_at(self._dataset, positions if self._order is None else self._order[positions])


def split_dataset(dataset: Any, split_at: int, order: ArrayLike | None = None) -> tuple[SubDataset, SubDataset]:
    """The first `split_at` examples, and the others.

    Args:
        dataset: the whole.
        split_at: number of examples in the first part, `0 <= split_at <= len(dataset)`.
        order: as in SubDataset.

    Raises:
        ArgumentError: `split_at` is not such an integer.
    """
    length = len(dataset)
    split_at = _integer("split_at", split_at)
    if not 0 <= split_at <= length:
        raise ArgumentError(f"split_at must lie in 0 … {length}, the length of the dataset, but is {split_at}")
    return SubDataset(dataset, 0, split_at, order), SubDataset(dataset, split_at, length, order)


def split_dataset_random(dataset: Any, first_size: int, seed: int | None = None) -> tuple[SubDataset, SubDataset]:
    """`first_size` examples drawn at random, and the others.

    Args:
        dataset: the whole.
        first_size: number of examples in the first part.
        seed: of the draw. None takes the job's seed, so that all ranks split alike; calls then differ from each other.

    Raises:
        ArgumentError: as `split_dataset`.
    """
    return split_dataset(dataset, first_size, _random_order(len(dataset), seed))


def split_dataset_n(dataset: Any, n: int, order: ArrayLike | None = None) -> list[SubDataset]:
    """`n` parts of `len(dataset) // n` examples; the remainder is in none of them.

    Raises:
        ArgumentError: `n` is not a positive integer.
    """
    n = _integer("n", n)
    if n <= 0:
        raise ArgumentError(f"n, the number of parts, must be positive, but is {n}")
    each = len(dataset) // n
    return [SubDataset(dataset, each * i, each * (i + 1), order) for i in range(n)]


def split_dataset_n_random(dataset: Any, n: int, seed: int | None = None) -> list[SubDataset]:
    """`n` parts of `len(dataset) // n` examples drawn at random; `seed` as in `split_dataset_random`.

    Raises:
        ArgumentError: `n` is not a positive integer.
    """
    return split_dataset_n(dataset, n, _random_order(len(dataset), seed))


def get_cross_validation_datasets(
    dataset: Any, n_folds: int, order: ArrayLike | None = None
) -> list[tuple[SubDataset, SubDataset]]:
    """`n_folds` pairs of a training and a validation set; each example is in one validation set.

    Raises:
        ArgumentError: `n_folds` is not an integer in `2 … len(dataset)`.
    """
    length = len(dataset)
    n_folds = _integer("n_folds", n_folds)
    if not 2 <= n_folds <= length:
        raise ArgumentError(f"n_folds must lie in 2 … {length}, the length of the dataset, but is {n_folds}")
    base = np.arange(length) if order is None else _checked(order, length)
    borders = [length * i // n_folds for i in range(n_folds + 1)]
    folds = []
    for start, finish in zip(borders[:-1], borders[1:], strict=True):
        rotated = np.concatenate([base[:start], base[finish:], base[start:finish]])
        folds.append(split_dataset(dataset, length - (finish - start), rotated))
    return folds


def get_cross_validation_datasets_random(
    dataset: Any, n_folds: int, seed: int | None = None
) -> list[tuple[SubDataset, SubDataset]]:
    """`get_cross_validation_datasets` of the shuffled dataset; `seed` as in `split_dataset_random`.

    Raises:
        ArgumentError: `n_folds` is not an integer in `2 … len(dataset)`.
    """
    return get_cross_validation_datasets(dataset, n_folds, _random_order(len(dataset), seed))


def _random_order(length: int, seed: int | None) -> NDArray[np.intp]:
    generator = rng.stream("split", rng.next_ordinal()) if seed is None else np.random.default_rng(seed)
    return generator.permutation(length)


def _checked(order: ArrayLike, length: int) -> NDArray[np.intp]:
    array = np.asarray(order)
    if array.shape != (length,) or array.dtype.kind not in "iu":
        raise DatasetError(
            f"order must hold {length} positions, one for each example, but has shape {array.shape} and dtype "
            f"{array.dtype}"
        )
    if length and not (0 <= array.min() and array.max() < length):
        raise DatasetError(f"order holds {array.min()} … {array.max()}, but the positions are 0 … {length - 1}")
    return array.astype(np.intp, copy=False)


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} must be an integer, not {value!r}") from None
