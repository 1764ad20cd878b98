"""Functions that make the order of the next epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class OrderSampler(ABC):
    """Makes the order of the next epoch. Any function of these two arguments is an order sampler.

    It is called at the start with `0, 1, 2 …` and position 0, then whenever a minibatch reaches the end of an epoch,
    on every rank, where it must give the same order. What it draws from `np.random` or `random` is a function of the
    seed and the epoch. The first order may be longer or shorter than the dataset; the later ones are as long.
    """

    @abstractmethod
    def __call__(self, current_order: NDArray[np.intp], current_position: int) -> Any:
        """The next order.

        Args:
            current_order: sample indices in the order of the epoch that ends.
            current_position: where in it the last minibatch began.

        Returns:
            Sample indices, integers of shape `(epoch size,)`.
        """


class ShuffleOrderSampler(OrderSampler):
    """Shuffles.

    Args:
        random_state: a `numpy.random.RandomState` or Generator to draw from, seeded alike on all ranks; its state is
            not in a snapshot. None, the better choice, makes the order a function of the seed and the epoch.
    """

    def __init__(self, random_state: Any = None) -> None:
        self.random_state = random_state

    def __call__(self, current_order: NDArray[np.intp], current_position: int) -> Any:
        """A random permutation of `0 … len(current_order) - 1`."""
        return (np.random if self.random_state is None else self.random_state).permutation(len(current_order))


class NoShuffleOrderSampler(OrderSampler):
    """Keeps the order of the dataset."""

    def __call__(self, current_order: NDArray[np.intp], current_position: int) -> Any:
        """`0 … len(current_order) - 1`."""
        return np.arange(len(current_order))
