"""A dataset seen through a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distrain.dataset.dataset_mixin import DatasetMixin


class TransformDataset(DatasetMixin):
    """A dataset whose example `i` is `transform(dataset[i])`.

    What `transform` draws from `np.random` or `random` is a function of the seed, the epoch and the sample when an
    iterator reads it: the same on any number of ranks, and after a resume.

    Args:
        dataset: the examples before the transform.
        transform: from an example to an example.
    """

    def __init__(self, dataset: Any, transform: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._transform = transform

    def __len__(self) -> int:
        return len(self._dataset)

    def get_example(self, i: int) -> Any:
        """The transformed example at position `i`."""
        return self._transform(self._dataset[i])
