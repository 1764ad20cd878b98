"""Which collectives the ranks came to last, and who did not come: from what each left in its black box. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

_ENTRY = struct.Struct("=qddqqiiii16s16sq")  # see distrain/black_box.py
_COLLECTIVES, _GRADIENTS, _MESSAGES = range(3)
_LONG_S = 1.0  # a rank that waits as long is worth a word, whatever the failure
_MOST = 8


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that a rank did together with others.

    Attributes:
        number: of what the rank did, from 0.
        begin, end: in seconds since the epoch on the rank's host; end is 0 if it has not ended.
        count: which one of its lane; of a message, the rank of the communicator at its other end.
        elements: of the array; -1: unknown.
        lane: the communicator, and whether it is its collectives, its gradients or its messages.
        size: ranks of the communicator.
        action, dtype: what was done with what.
    """

    number: int
    begin: float
    end: float
    count: int
    elements: int
    lane: tuple[int, int, int]
    size: int
    action: str
    dtype: str

    @property
    def is_message(self) -> bool:
        """Whether it goes from one rank to another."""
        return self.lane[2] == _MESSAGES

    @property
    def text(self) -> str:
        """What it was, for people."""
        if self.is_message:
            return f"{self.action} rank {self.count}"
        data = f" of {self.elements} {self.dtype}" if self.elements >= 0 else ""
        name = "exchange {} of gradients, " if self.lane[2] == _GRADIENTS else "collective {}, "
        return f"{name.format(self.count)}{self.action}{data}"


class Left(Protocol):
    """What a rank has left."""

    rank: int
    size: int
    ended: float
    operations: list[Operation]


def read(data: bytes) -> list[Operation]:
    """The operations in the entries of a black box, the oldest first, without one that a kill left unfinished."""
    found = []
    for number, begin, end, count, elements, *name, size, lane, action, dtype, again in _ENTRY.iter_unpack(data):
        if begin > 0.0 and number == again:
            words = [text.rstrip(b"\0").decode("ascii", "replace") for text in (action, dtype)]
            found.append(Operation(number, begin, end, count, elements, (name[0], name[1], lane), size, *words))
    return sorted(found, key=lambda one: one.number)


def describe(ranks: Sequence[Left], when: float, *, was_killed: bool) -> Iterator[str]:
    """Lines that say in which collective each rank was, and who did not come to it; none if that is no news.

    Args:
        ranks: all ranks.
        when: the failure was, in seconds since the epoch.
        was_killed: whether a signal ended the rank that failed, so that it could not say anything itself.
    """
    ranks = sorted((rank for rank in ranks if rank.operations), key=lambda rank: rank.rank)
    waits = [one.begin for rank in ranks for one in rank.operations if not one.end]
    if len(ranks) < 2 or not (was_killed or any(when - begin > _LONG_S for begin in waits)):
        return
    yield "The last collectives:"
    told: dict[str, list[int]] = {}
    for rank in ranks:
        told.setdefault(_tell(rank, ranks, when), []).append(rank.rank)
    for text, numbers in told.items():
        yield f"  {_named(numbers)}: {text}"


def _tell(rank: Left, ranks: Sequence[Left], when: float) -> str:
    waits = [one for one in rank.operations if not one.end]
    if waits:
        return "; ".join(f"in {one.text}{_who_did_not_come(one, ranks)}" for one in waits)
    last = rank.operations[-1]
    return f"in none; the last was {last.text}, which ended {max(0.0, min(rank.ended, when) - last.end):.1f} s before"


def _who_did_not_come(operation: Operation, ranks: Sequence[Left]) -> str:
    """Those of the communicator, as far as its ranks are known: all of the job, or those that came to it before."""
    if operation.is_message:
        return ""
    late = []
    for rank in ranks:
        counts = [one.count for one in rank.operations if one.lane == operation.lane]
        if (counts or operation.size == rank.size) and max(counts, default=-1) < operation.count:
            late.append(rank.rank)
    return f", to which {_named(late)} did not come" if late else ", to which all came"


def _named(ranks: Sequence[int]) -> str:
    numbers = ", ".join(map(str, ranks[:_MOST])) + (f" and {len(ranks) - _MOST} others" if len(ranks) > _MOST else "")
    return f"rank{'s' * (len(ranks) > 1)} {numbers}"
