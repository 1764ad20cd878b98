"""What all extensions have in common that change a hyperparameter along a curve."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from distrain.errors import ArgumentError
from distrain.training.extension import Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class Shift(Extension):
    """Sets a hyperparameter to a function of the number of calls; subclasses define `value_at`.

    It is set before the first step to the value after no call, and after each call to the next one; so the trigger
    says in what unit the curve is measured. The number of calls is in the snapshot.

    Args:
        attr: name of the attribute of the optimizer: "lr", for Adam "alpha".
        init: where the curve begins; None takes the optimizer's value at the start.
        target: where the value stops once it has got there; None lets it go on.
        optimizer: whose hyperparameter; None takes the updater's "main".
    """

    def __init__(self, attr: str, init: float | None = None, target: float | None = None, optimizer: Any = None):
        self.attr = attr
        self.init = init
        self.target = target
        self.optimizer = optimizer
        self.t = 0  # calls so far

    @abstractmethod
    def value_at(self, t: int, init: float) -> float:
        """The value after `t` calls."""

    def initialize(self, trainer: Trainer) -> None:
        """Sets the value where the curve begins, or where a snapshot says.

        Raises:
            ArgumentError: the optimizer has no such attribute, or it cannot be set.
        """
        optimizer = self._optimizer(trainer)
        try:
            value = getattr(optimizer, self.attr)
            if self.init is None:
                self.init = float(value)
            setattr(optimizer, self.attr, self._value(self.init))
        except (AttributeError, TypeError) as error:
            names = ", ".join(map(repr, optimizer.hyperparam.get_dict()))
            raise ArgumentError(
                f"{type(self).__name__}({self.attr!r}): {type(optimizer).__name__} has no number of that name that "
                f"could be set; it has {names}"
            ) from error

    def __call__(self, trainer: Trainer) -> None:
        """Sets the next value."""
        self.t += 1
        assert self.init is not None
        setattr(self._optimizer(trainer), self.attr, self._value(self.init))

    def _optimizer(self, trainer: Trainer) -> Any:
        return trainer.updater.get_optimizer("main") if self.optimizer is None else self.optimizer

    def _value(self, init: float) -> float:
        value = self.value_at(self.t, init)
        if self.target is not None and (value - self.target) * (init - self.target) <= 0:  # it has got there
            return self.target
        return value

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the number of calls."""
        self.t = serializer("_t", self.t)
