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
        kind: of operation, by which past waits are counted.
        lane: something in which the ranks come to the same things in the same order; (): nothing such.
        count: which one of its lane.
        is_end: whether the rank has come to the end of its script.
    """

    key: tuple[Any, ...]
    ranks: tuple[int, ...]
    text: str
    kind: str = ""
    lane: tuple[Any, ...] = ()
    count: int = 0
    is_end: bool = False


@dataclass
class Waiting:
    """A rank that waits.

    Attributes:
        ops: in what; several if it has threads, or sums gradients as a part of something.
        first, last: when it was first and last heard to wait in exactly these.
        seconds: how long it has waited.
        limit_s: how long it may.
        place: where in the script, for people.
    """

    ops: list[Op]
    first: float
    last: float
    seconds: float
    limit_s: float
    place: str = ""


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


def find_late(known: Mapping[int, Waiting], now: float, silence_s: float) -> tuple[Op | None, frozenset[int]]:
    """What a rank has waited in for too long, and whom it may be waiting for; (None, nobody) if there is no such thing.

    These are the ranks that have not come to it, and those that have come but say nothing any more.

    Args:
        known: the ranks that wait.
        now: on the clock of `Waiting.last`.
        silence_s: after which a rank says nothing any more.
    """
    heard = {rank: waiting for rank, waiting in known.items() if now - waiting.last <= silence_s}
    for waiting in heard.values():
        if waiting.seconds > waiting.limit_s:
            for op in waiting.ops:
                late = _absent(op, heard)
                if late:
                    return op, late
    return None, frozenset()


def _absent(op: Op, known: Mapping[int, Waiting]) -> frozenset[int]:
    return frozenset(
        rank for rank in op.ranks if rank not in known or not any(_has_come(other, op) for other in known[rank].ops)
    )


def _has_come(other: Op, op: Op) -> bool:
    """Whether a rank that is in the other one is in this one as well, or has been."""
    return other.key == op.key or (op.lane != () and other.lane == op.lane and other.count > op.count)
