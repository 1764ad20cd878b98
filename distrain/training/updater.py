"""What a trainer asks of an updater."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distrain.comm import Communicator
    from distrain.training.trainer import Trainer


class Updater(ABC):
    """Makes one step of the training a call.

    Attributes:
        iteration: number of steps so far.
        comm: the ranks that train together; None is the job's world.
    """

    iteration: int = 0
    comm: Communicator | None = None

    @property
    @abstractmethod
    def epoch(self) -> int:
        """Number of epochs that are complete."""

    @property
    @abstractmethod
    def epoch_detail(self) -> float:
        """Epochs as a fraction."""

    @property
    @abstractmethod
    def previous_epoch_detail(self) -> float | None:
        """`epoch_detail` before the last step; None before the first."""

    @property
    @abstractmethod
    def is_new_epoch(self) -> bool:
        """Whether the last step completed an epoch."""

    @abstractmethod
    def update(self) -> None:
        """One step: updates the parameters with one minibatch."""

    @abstractmethod
    def get_optimizer(self, name: str) -> Any:
        """The optimizer of that name."""

    @abstractmethod
    def get_all_optimizers(self) -> dict[str, Any]:
        """All optimizers by name."""

    def connect_trainer(self, trainer: Trainer) -> None:  # noqa: B027    most updaters need nothing of the trainer
        """Called by the trainer that will run this updater."""

    def finalize(self) -> None:  # noqa: B027
        """Called after the last step, also after an exception."""

    @abstractmethod
    def serialize(self, serializer: Any) -> None:
        """Writes or reads the state of the training."""
