"""Looks after the local feeders: who is there, who is dead, who hangs, and which sample is to blame."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from distrain import wire
from distrain.errors import FeedError, WireError
from distrain.iterators.feed import protocol
from distrain.iterators.feed.arena import Arena
from distrain.iterators.feed.crew import STOPPED_LOOKS, Crew, Feeder
from distrain.iterators.feed.outcome import poisonous
from distrain.iterators.feed.protocol import Hello
from distrain.iterators.feed.server import Cargo
from distrain.iterators.feed.statistics import Statistics
from distrain.iterators.feed.window import Member, Piece, Window
from distrain.iterators.reading import Skipped

LOOK_S = 0.1
"""Between two looks at what the feeders are doing."""

_PAUSE_S = 2.0  # without a look: this process may have been stopped, and its feeders with it
_STACK_S = 0.2  # for a hung feeder to write down where it hangs
_STRIKES = 2  # feeders that a sample may end before it counts as poisonous
_STRIKES_FROM_OUTSIDE = 5  # the same for SIGKILL and the like, which may well be somebody else's doing
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "stopped by a signal", "connection lost")
_FAILED_STARTS = 3  # in a row
_EXPELLED = 20  # in a row
_REMEMBERED = 100
_FAILED_STARTS_FROM_OUTSIDE = 50  # the death of a nursery alone ends as many at once as there are feeders


class Supervisor:
    """Keeps the crew complete.

    A sample over which a feeder dies is read alone from then on, and counts as poisonous when that has ended several
    feeders: then it is an error, or replaced by the next sample of the dataset.

    Args:
        crew: the local feeders.
        window: their work.
        arena: where they say what they are doing.
        cargo: what they read.
        token: shows that a feeder is this run's.
        sample_timeout: seconds for a sample; None: no limit.
        tasks_per_feeder: pieces after which a feeder is replaced; None: never.
        statistics: where deaths are noted.
        skipped: where replaced samples are noted.
        send: sends a message to a feeder.

    Attributes:
        problem: why the feeders cannot go on; None while they can.
    """

    def __init__(
        self,
        crew: Crew,
        window: Window,
        arena: Arena,
        cargo: Cargo,
        token: bytes,
        sample_timeout: float | None,
        tasks_per_feeder: int | None,
        statistics: Statistics,
        skipped: list[Skipped],
        send: Callable[[Member, bytes], bool],
    ) -> None:
        self.problem: str | None = None
        self._crew = crew
        self._window = window
        self._arena = arena
        self._cargo = cargo
        self._token = token
        self._sample_timeout = sample_timeout
        self._tasks_per_feeder = tasks_per_feeder
        self._statistics = statistics
        self._skipped = skipped
        self._send = send
        self._failed_starts = 0
        self._expelled = 0  # feeders, since the last good answer
        self._stopped: dict[Feeder, int] = {}  # looks at which it was
        self._ended: dict[Feeder, str] = {}  # by this supervisor, and why
        self._looked = self._resumed = 0.0
        self._former: deque[Member] = deque(maxlen=_REMEMBERED)  # feeders that are gone

    def welcome(self, member: Member, hello: Hello) -> None:
        """A feeder says that it is there.

        Raises:
            WireError: it is none of this run's.
        """
        feeder = self.feeder_of(member)
        if hello.token != self._token or hello.version != protocol.VERSION or feeder is None:
            raise WireError(f"feeder {hello.number} (pid {hello.pid}) is not one of this run's")
        if not feeder.is_ready:
            feeder.is_ready = True
            self._failed_starts = 0
            self._window.join(member)

    def is_former(self, member: Member) -> bool:
        """Whether this is a feeder that is gone, whose last messages may still come in."""
        return member in self._former

    def feeder_of(self, member: Member) -> Feeder | None:
        """The feeder of an identity, if there is one."""
        self._crew.hear()  # its first message may have been faster than the news of its birth
        return next((feeder for feeder in self._crew.feeders.values() if feeder.identity == member), None)

    def expel(self, member: Member, reason: str) -> None:
        """Ends a feeder that talks nonsense; it is replaced like any other that died, but not for ever."""
        feeder = self.feeder_of(member)
        if feeder is None:
            return
        feeder.kill()
        self._expelled += 1
        if self._expelled == _EXPELLED:
            self.problem = f"{_EXPELLED} messages of feeders in a row were refused, the last one because: {reason}"

    def count_task(self, member: Member) -> None:
        """A feeder has done a piece; after so many it is replaced, against what it may have leaked."""
        self._expelled = 0
        if self._tasks_per_feeder is None:
            return
        feeder = self.feeder_of(member)
        if feeder is None:
            return
        feeder.done += 1
        if feeder.done >= self._tasks_per_feeder:
            for ticket in self._window.retire(member):
                self._send(member, wire.pack(["cancel", ticket]))
            self.let_retire(member)

    def let_retire(self, member: Member) -> None:
        """Stops a feeder that gets no more work, once it has handed in or given back the last of it."""
        if self._window.is_retired(member):
            self._window.leave(member)
            self._send(member, wire.pack(["stop"]))

    def look(self, now: float) -> None:
        """Ends feeders that hang, a few times a second."""
        if now - self._looked < LOOK_S:
            return
        if now - self._looked > _PAUSE_S:
            self._resumed = now
        self._looked = now
        self._crew.check()
        for feeder in list(self._crew.feeders.values()):
            if feeder.identity not in self._window or not self._window.load(feeder.identity):
                continue
            since = self._arena.progress(feeder.number).since
            if self._sample_timeout is not None and since and now - max(since, self._resumed) > self._sample_timeout:
                self._end(feeder, f"no end after {self._sample_timeout:g} s")
            elif feeder.is_stopped:
                self._stopped[feeder] = self._stopped.get(feeder, 0) + 1
                if self._stopped[feeder] >= STOPPED_LOOKS:
                    self._end(feeder, "stopped by a signal")
            else:
                self._stopped.pop(feeder, None)

    def _end(self, feeder: Feeder, reason: str) -> None:
        self._ended[feeder] = reason
        feeder.write_stack()
        time.sleep(_STACK_S)
        feeder.kill()

    def lose(self, feeder: Feeder) -> None:
        """A feeder is dead: its work goes to others, and another one takes its place."""
        progress = self._arena.progress(feeder.number)
        self._former.append(feeder.identity)
        cause = self._crew.bury(feeder)
        cause = self._ended.pop(feeder, cause)
        words = feeder.last_words()
        self._stopped.pop(feeder, None)
        has_retired = feeder.is_ready and feeder.identity not in self._window
        suspect = self._window.piece_of(progress.ticket, feeder.identity)
        orphans = [piece for piece in self._window.leave(feeder.identity) if piece.job.is_wanted]
        self._window.waiting[:0] = orphans
        if suspect in orphans and suspect.start <= progress.row < suspect.stop:
            self.suspect(suspect, progress.row, cause, words)
        if not feeder.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= (_FAILED_STARTS_FROM_OUTSIDE if cause in _FROM_OUTSIDE else _FAILED_STARTS):
                self.problem = f"feeders end before they are ready ({cause}).\n{words}".rstrip()
        if not has_retired:
            self._statistics.note_respawn(feeder.number, feeder.pid, cause)
        self._arena.forget(feeder.number)
        feeder.close()
        self._crew.hire(feeder.number)

    def suspect(self, piece: Piece, row: int, cause: str, words: str) -> None:
        """A feeder has died over a row of this piece, which waits for another one."""
        job, waiting = piece.job, self._window.waiting
        if piece.stop - piece.start > 1 and self._cargo.converter is None:
            at = waiting.index(piece)
            parts = job.isolate(piece, row)
            waiting[at : at + 1] = parts
            piece = next(part for part in parts if part.start == row)
        piece.strikes += 1
        if piece.strikes < (_STRIKES_FROM_OUTSIDE if cause in _FROM_OUTSIDE else _STRIKES):
            return
        failure = poisonous(job, row, piece.strikes, cause, words)
        if self._cargo.on_error == "skip" and piece.substitutes < len(self._cargo.dataset):
            substitute = (failure.index + 1) % len(self._cargo.dataset)
            job.substitute(row, substitute)
            piece.strikes, piece.substitutes = 0, piece.substitutes + 1
            self._skipped.append(Skipped(failure.epoch, failure.index, substitute, failure.message))
            return
        waiting.remove(piece)
        piece.answer = failure

    def activity(self) -> str:
        """What the feeders are doing, for a warning."""
        now = time.monotonic()
        lines = []
        for feeder in self._crew.feeders.values():
            progress = self._arena.progress(feeder.number)
            piece = self._window.piece_of(progress.ticket, feeder.identity)
            state = "has nothing to do" if feeder.is_ready else "is starting"
            if piece is not None and piece.start <= progress.row < piece.stop:
                epoch, index = piece.job.sample(progress.row)
                state = f"reads sample {index} (epoch {epoch}) since {now - progress.since:.1f} s"
            lines.append(f"feeder {feeder.number} (pid {feeder.pid}) {state}")
        return "; ".join(lines) or "the feeders are being started"

    def check_problem(self) -> None:
        """Raises what keeps the feeders from going on.

        Raises:
            FeedError: there is such a thing.
        """
        if self.problem is not None:
            raise FeedError(self.problem)
