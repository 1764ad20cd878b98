"""The extensions of a trainer as they are registered: names, triggers, priorities, and the ranks that they run on."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from distrain import comm as comm_module
from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.training.extension import Extension, RunsOn, checked_runs_on
from distrain.training.triggers import agreement
from distrain.training.triggers.trigger import Trigger, get_trigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


@dataclass(eq=False)
class Entry:
    """An extension as it was registered; see `Trainer.extend`."""

    name: str
    extension: Any
    trigger: Trigger
    priority: int
    call_before_training: bool
    runs_on: RunsOn


Active: TypeAlias = tuple[Trigger, Callable[["Trainer"], Any], str]
"""What is asked after each update: trigger, extension, name."""


def entry_of(
    extension: Any,
    name: str | None,
    trigger: Any,
    priority: int | None,
    call_before_training: bool,
    runs_on: RunsOn | None,
    taken: Container[str],
) -> Entry:
    """An extension with what is not given taken from itself, or else by default; see `Trainer.extend`.

    Args:
        taken: names that others have.

    Raises:
        ArgumentError: it cannot be called, or the trigger, the name or `runs_on` is impossible.
    """
    if not callable(extension):
        raise ArgumentError(f"an extension is an Extension or a function of the trainer, not {extension!r}")
    if name is None:
        name = _name(extension)
    if name == "training":
        raise ArgumentError("'training' is no name for an extension; choose another")
    unique, ordinal = name, 0
    while unique in taken:
        ordinal += 1
        unique = f"{name}_{ordinal}"
    if isinstance(extension, Extension):
        extension.name = unique
    return Entry(
        unique,
        extension,
        get_trigger(getattr(extension, "trigger", Extension.trigger) if trigger is None else trigger),
        getattr(extension, "priority", Extension.priority) if priority is None else priority,
        call_before_training or getattr(extension, "invoke_before_training", False),
        checked_runs_on(runs_on or getattr(extension, "runs_on", Extension.runs_on)),
    )


def _name(extension: Any) -> str:
    given = getattr(extension, "name", None) or getattr(extension, "default_name", None)
    return str(given or getattr(extension, "__name__", type(extension).__name__))


def agree_on_ranks(comm: Communicator, entries: Mapping[str, Entry]) -> None:
    """Keeps extensions and triggers that are not on every rank from waiting for others; a collective call.

    Args:
        comm: the ranks that train together.
        entries: those of this rank, by name.
    """
    everybody = comm.allgather_obj({entry.name: entry.runs_on for entry in entries.values()})
    for name, entry in entries.items():
        theirs = [other.get(name) for other in everybody]
        if None in theirs:
            agreement.decide_among(entry.trigger, comm_module.local())
        if any(runs_on != "all" for runs_on in theirs) and hasattr(entry.extension, "comm"):
            entry.extension.comm = comm_module.local()


def split_active(entries: Sequence[Entry], mine: Container[Entry]) -> tuple[list[Active], list[Active]]:
    """What is asked after each update; apart from it the savers of the trainer that come last.

    Args:
        entries: all of them, in the order in which they run.
        mine: those that run on this rank. Of others, triggers that ask all ranks are asked here too.
    """
    chosen = [entry for entry in entries if entry in mine or agreement.is_collective(entry.trigger)]
    found = [(entry.trigger, entry.extension if entry in mine else _nothing, entry.name) for entry in chosen]
    first = len(chosen)
    while first and getattr(chosen[first - 1].extension, "saves_trainer", False):
        first -= 1
    return found[:first], found[first:]


def _nothing(trainer: Trainer) -> None:
    """Stands for an extension of rank 0 whose trigger asks all ranks."""
