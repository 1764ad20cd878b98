"""Minibatches on their way: who reads which rows, and what has come back. Pure, but for the clock that it is given.

A minibatch (`Job`) is cut into pieces, so that one slow sample does not hold up its neighbours. A piece is handed to a
feeder under a fresh ticket, and to another one when that feeder is lost or slow; the first answer counts. A slot is not
used again before every ticket for it is answered or its feeder is dead, so a late answer cannot write into a later
minibatch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distrain.iterators.feed.arena import Slot
from distrain.iterators.feed.layout import Layout
from distrain.iterators.feed.protocol import Done, Failed

Member: TypeAlias = bytes
"""A feeder, by its identity."""


@dataclass(eq=False)
class Piece:
    """Rows `start … stop - 1` of a minibatch.

    Attributes:
        job: the minibatch.
        answer: what came back, once it has.
        values: what the answer's payload holds, read and checked; None where the rows are in the columns.
        tickets: under which it is being worked on.
        strikes: how many feeders have died over it, once it is a single sample.
        substitutes: how often its sample was replaced by the next one.
    """

    job: Job
    start: int
    stop: int
    answer: Done | Failed | None = None
    values: list[Any] | None = None
    tickets: set[int] = field(default_factory=set)
    strikes: int = 0
    substitutes: int = 0


@dataclass(eq=False)
class Job:
    """A minibatch that is being read.

    Attributes:
        runs: its samples, by epoch.
        rows: how many they are.
        slot: where it is built; None before the size of a sample is known.
        memory: the slot's bytes, lent; whoever holds views of them keeps the slot.
        layout: of its columns; None if there is none.
        pieces: in the order of the rows.
        is_wanted: whether somebody will still take it.
    """

    runs: list[tuple[int, list[int]]]
    rows: int
    slot: Slot | None = None
    memory: NDArray[np.uint8] | None = None
    layout: Layout | None = None
    pieces: list[Piece] = field(default_factory=list)
    is_wanted: bool = True

    @property
    def is_decided(self) -> bool:
        """Whether all rows are there, or all rows before the first one that failed."""
        for piece in self.pieces:
            if piece.answer is None:
                return False
            if isinstance(piece.answer, Failed):
                return True
        return bool(self.pieces) and self.pieces[-1].stop == self.rows

    def let_go(self) -> None:
        """Drops its arrays. Pieces and job refer to each other, so they would stay, and keep the slot, for a while."""
        self.memory = None
        for piece in self.pieces:
            piece.values = None

    def runs_of(self, start: int, stop: int) -> list[tuple[int, list[int]]]:
        """The samples of some rows, by epoch."""
        found = []
        before = 0
        for epoch, indices in self.runs:
            part = indices[max(0, start - before) : max(0, stop - before)]
            if part:
                found.append((epoch, part))
            before += len(indices)
        return found

    def sample(self, row: int) -> tuple[int, int]:
        """Epoch and index of a row."""
        ((epoch, (index,)),) = self.runs_of(row, row + 1)
        return epoch, index

    def substitute(self, row: int, index: int) -> None:
        """Reads another sample for a row."""
        for _, indices in self.runs:
            if row < len(indices):
                indices[row] = index
                return
            row -= len(indices)

    def cut(self, size: int, start: int = 0) -> list[Piece]:
        """Cuts rows `start …` into pieces of so many rows."""
        pieces = [Piece(self, at, min(at + size, self.rows)) for at in range(start, self.rows, size)]
        self.pieces += pieces
        return pieces

    def isolate(self, piece: Piece, row: int) -> list[Piece]:
        """Cuts a piece in up to three, one of them a single row; returns these."""
        bounds = sorted({piece.start, row, row + 1, piece.stop})
        parts = [Piece(self, start, stop) for start, stop in itertools.pairwise(bounds)]
        self._replace(piece, parts)
        return parts

    def scatter(self, piece: Piece) -> list[Piece]:
        """Cuts a piece into its rows; returns these."""
        parts = [Piece(self, row, row + 1) for row in range(piece.start, piece.stop)]
        self._replace(piece, parts)
        return parts

    def _replace(self, piece: Piece, parts: list[Piece]) -> None:
        at = self.pieces.index(piece)
        self.pieces[at : at + 1] = parts


class Window:
    """Tickets, and the pieces behind them.

    Attributes:
        waiting: pieces that nobody works on, in the order in which they are wanted.
    """

    def __init__(self) -> None:
        self.waiting: list[Piece] = []
        self._numbers = itertools.count(1)
        self._tickets: dict[int, tuple[Piece, Member]] = {}
        self._loads: dict[Member, dict[int, None]] = {}
        self._retiring: set[Member] = set()

    def join(self, member: Member) -> None:
        """A feeder is ready for work."""
        self._loads[member] = {}

    def __contains__(self, member: Member) -> bool:
        return member in self._loads

    @property
    def members(self) -> Iterator[Member]:
        """The feeders that are ready."""
        return iter(self._loads)

    def load(self, member: Member) -> int:
        """How many pieces a feeder has."""
        return len(self._loads[member])

    def is_idle(self, member: Member) -> bool:
        """Whether a feeder has nothing to do, and takes work."""
        return not self._loads[member] and member not in self._retiring

    def laziest(self) -> Member | None:
        """The feeder with the fewest pieces; None if there is none that takes more."""
        return min((member for member in self._loads if member not in self._retiring), key=self.load, default=None)

    def retire(self, member: Member) -> list[int]:
        """A feeder gets no more work; returns its tickets, to be cancelled if it has not begun with them."""
        if member in self._retiring:
            return []
        self._retiring.add(member)
        return list(self._loads[member])

    def is_retired(self, member: Member) -> bool:
        """Whether a feeder gets no more work and has none left."""
        return member in self._retiring and not self._loads.get(member)

    def issue(self, piece: Piece, member: Member, into_slot: bool = True) -> int:
        """Gives a piece to a feeder, which may write into the slot or cannot; returns the ticket."""
        ticket = next(self._numbers)
        self._tickets[ticket] = piece, member
        self._loads[member][ticket] = None
        piece.tickets.add(ticket)
        if piece.job.slot is not None and into_slot:
            piece.job.slot.pending.add(ticket)
        return ticket

    def piece_of(self, ticket: int, member: Member) -> Piece | None:
        """What a feeder works on under a ticket; None if it has no such ticket."""
        piece, holder = self._tickets.get(ticket, (None, None))
        return piece if holder == member else None

    def settle(self, ticket: int) -> Piece:
        """A ticket is answered, or never will be; returns its piece."""
        piece, member = self._tickets.pop(ticket)
        self._loads[member].pop(ticket)
        piece.tickets.discard(ticket)
        if piece.job.slot is not None:
            piece.job.slot.pending.discard(ticket)
        return piece

    def leave(self, member: Member) -> list[Piece]:
        """A feeder is gone; returns the pieces that nobody works on any more."""
        orphans = []
        for ticket in list(self._loads.get(member, ())):
            piece = self.settle(ticket)
            if piece.answer is None and not piece.tickets:
                orphans.append(piece)
        self._loads.pop(member, None)
        self._retiring.discard(member)
        return orphans

    def queued(self, current: int, member: Member) -> list[int]:
        """A feeder's tickets that it has not begun with, the next one first.

        Args:
            current: the ticket it is working on, as it says; 0 if none.
            member: the feeder.
        """
        return [ticket for ticket in self._loads[member] if ticket != current]

    def tickets_of(self, member: Member) -> list[int]:
        """A feeder's tickets, oldest first."""
        return list(self._loads.get(member, ()))

    def drop(self, job: Job) -> list[tuple[int, Member]]:
        """Nobody wants a minibatch any more; returns the tickets that are still out, to be cancelled."""
        job.is_wanted = False
        job.let_go()
        self.waiting = [piece for piece in self.waiting if piece.job is not job]
        return [(ticket, self._tickets[ticket][1]) for piece in job.pieces for ticket in sorted(piece.tickets)]
