"""Extensions that add a value to the observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distrain.training.extension import PRIORITY_WRITER, make_extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


def observe_value(observation_key: str, target_func: Callable[[Trainer], Any]) -> Callable[[Trainer], None]:
    """An extension that puts a value into the observation, once an epoch unless `extend` is given another trigger.

    Args:
        observation_key: the name it gets there.
        target_func: gives the value; called with the trainer.
    """

    @make_extension(trigger=(1, "epoch"), priority=PRIORITY_WRITER)
    def _observe_value(trainer: Trainer) -> None:
        trainer.observation[observation_key] = target_func(trainer)

    return _observe_value


def observe_lr(optimizer_name: str = "main", observation_key: str = "lr") -> Callable[[Trainer], None]:
    """An extension that puts the learning rate of an optimizer into the observation.

    Args:
        optimizer_name: its name in the updater.
        observation_key: the name the value gets.
    """
    return observe_value(observation_key, lambda trainer: trainer.updater.get_optimizer(optimizer_name).lr)
