"""Extensions: what a trainer does besides updating the model."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from distrain.errors import ArgumentError

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

PRIORITY_WRITER = 300
"""Of extensions that write to the observation."""
PRIORITY_EDITOR = 200
"""Of extensions that change the observation."""
PRIORITY_READER = 100
"""Of extensions that only read it."""

RunsOn: TypeAlias = Literal["rank0", "all"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Extension:
    """Something that a trainer calls between updates. Subclasses define `__call__`.

    Attributes:
        trigger: when it runs, unless `Trainer.extend` is told otherwise; see `get_trigger`.
        priority: those with higher priority run first.
        name: the name that the trainer knows it by; None before it is registered, unless set.
        runs_on: "all": every rank calls it, in the same order; it may use collectives and may change the training.
            "rank0": rank 0 alone; for what shows or writes something and needs no collective.
    """

    trigger: Any = (1, "iteration")
    priority: int = PRIORITY_READER
    name: str | None = None
    runs_on: RunsOn = "all"

    @property
    def default_name(self) -> str:
        """The name if none is given: the name of the class."""
        return type(self).__name__

    def __call__(self, trainer: Trainer) -> Any:
        """Does the work; called after the update, when the trigger fires."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def before_initialize(self, trainer: Trainer) -> None:
        """Called once before any `initialize` of a run; the place to load a snapshot."""

    def initialize(self, trainer: Trainer) -> None:
        """Called once before the first update of a run, after a snapshot has been loaded."""

    def finalize(self) -> None:
        """Called once after the last update, also after an exception."""

    def on_error(self, trainer: Trainer, exc: BaseException, tb: TracebackType | None) -> None:
        """Called when an exception ends the training, before any `finalize`."""

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the state."""


def make_extension(
    trigger: Any = None,
    default_name: str | None = None,
    priority: int | None = None,
    finalizer: Callable[[], Any] | None = None,
    initializer: Callable[[Trainer], Any] | None = None,
    on_error: Callable[[Trainer, BaseException, TracebackType | None], Any] | None = None,
    *,
    runs_on: RunsOn = "all",
) -> Callable[[_Function], _Function]:
    """Decorates a function of the trainer with what makes an extension.

        @training.make_extension(trigger=(1, "epoch"))
        def halve_learning_rate(trainer):
            trainer.updater.get_optimizer("main").lr /= 2

    Args:
        trigger: see `Extension`; every iteration by default.
        default_name: the name of the function by default.
        priority: `PRIORITY_READER` by default.
        finalizer: called after the last update.
        initializer: called with the trainer before the first update.
        on_error: called with trainer, exception and traceback when one ends the training.
        runs_on: see `Extension`.
    """

    def decorate(function: _Function) -> _Function:
        function.trigger = Extension.trigger if trigger is None else trigger  # type: ignore[attr-defined]
        function.priority = Extension.priority if priority is None else priority  # type: ignore[attr-defined]
        function.default_name = default_name or function.__name__  # type: ignore[attr-defined]
        function.runs_on = checked_runs_on(runs_on)  # type: ignore[attr-defined]
        for name, hook in (("finalize", finalizer), ("initialize", initializer), ("on_error", on_error)):
            if hook is not None:
                setattr(function, name, hook)
        return function

    return decorate


def checked_runs_on(value: Any) -> RunsOn:
    """The value, if it says on which ranks an extension runs.

    Raises:
        ArgumentError: it does not.
    """
    if value not in ("rank0", "all"):
        raise ArgumentError(f"runs_on must be 'rank0' or 'all', not {value!r}")
    return value  # type: ignore[no-any-return]
