"""Who waits for whom: pure functions of what the ranks say they wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Op:
    """Something that a rank waits in.

    Attributes:
        key: equal on all ranks that wait in the same thing.
        ranks: of the job, who must come.
        text: for people.
        is_end: whether the rank has come to the end of its script.
    """

    key: tuple[Any, ...]
    ranks: tuple[int, ...]
    text: str
    is_end: bool = False


@dataclass
class Waiting:
    """A rank that waits.

    Attributes:
        ops: in what; several if it has threads.
        first, last: when it was first and last heard to wait in exactly these.
        seconds: how long it has waited.
        place: where in the script, for people.
    """

    ops: list[Op]
    first: float
    last: float
    seconds: float
    place: str


def is_stuck(known: Mapping[int, Waiting], size: int) -> bool:
    """Whether all ranks wait, and none of what they wait in can ever be complete.

    All must have waited at one moment in what they said before and after it: what one of them says may be out of date.

    Args:
        known: the ranks that wait.
        size: number of ranks.
    """
    if len(known) < size or max(w.first for w in known.values()) >= min(w.last for w in known.values()):
        return False
    return not any(_absent(op, known) == frozenset() for waiting in known.values() for op in waiting.ops)


def find_late(known: Mapping[int, Waiting], timeout_s: float) -> tuple[Op | None, frozenset[int]]:
    """What a rank has waited in for too long, and who has not come to it; (None, nobody) if there is no such thing."""
    for waiting in known.values():
        if waiting.seconds > timeout_s:
            for op in waiting.ops:
                late = _absent(op, known)
                if late:
                    return op, late
    return None, frozenset()


def _absent(op: Op, known: Mapping[int, Waiting]) -> frozenset[int]:
    return frozenset(
        rank for rank in op.ranks if rank not in known or not any(other.key == op.key for other in known[rank].ops)
    )
