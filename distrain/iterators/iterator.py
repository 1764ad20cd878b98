"""What updaters, triggers and evaluators may ask of every iterator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self


class Iterator(ABC):
    """Hands out minibatches of a dataset.

        with SerialIterator(train, 100) as iterator:
            for batch in iterator:
                ...

    Attributes:
        epoch: number of epochs that are complete.
        is_new_epoch: whether the last minibatch completed an epoch.
        epoch_detail: epochs as a fraction: 1.5 in the middle of the second.
        previous_epoch_detail: `epoch_detail` before the last minibatch; None before the first. Triggers compare the
            two, so they neither miss an interval nor fire twice.
    """

    epoch: int
    is_new_epoch: bool

    @property
    @abstractmethod
    def epoch_detail(self) -> float:
        """Epochs as a fraction."""

    @property
    @abstractmethod
    def previous_epoch_detail(self) -> float | None:
        """`epoch_detail` before the last minibatch; None before the first."""

    @abstractmethod
    def __next__(self) -> Any:
        """The next minibatch.

        Raises:
            StopIteration: there are no more.
        """

    def next(self) -> Any:
        """The next minibatch, as `next(iterator)`."""
        return self.__next__()

    def __iter__(self) -> Self:
        return self

    def reset(self) -> None:
        """Back to the start of the first epoch.

        Raises:
            NotImplementedError: this iterator cannot.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot go back to its start")

    def finalize(self) -> None:  # noqa: B027    most iterators have nothing to end
        """Ends what the iterator has started, such as processes. May be called more than once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.finalize()

    @abstractmethod
    def serialize(self, serializer: Any) -> None:
        """Writes or reads the state. Writing changes nothing."""
