"""The rank's side of the feed: hands out the rows of minibatches, and puts together what comes back.

There is no thread. All that is wanted next is handed out at once, and ZeroMQ carries it while the rank trains; the rank
looks at its mail when it takes a minibatch, and looks after its feeders while it waits for one. So nothing competes
with the training for the interpreter, and there is nothing that could hang at the end of the program.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from distrain import wire
from distrain.errors import FeedError, WireError
from distrain.iterators.feed import nursery, parcels, protocol
from distrain.iterators.feed.arena import MAX_FEEDERS, Arena, Slot
from distrain.iterators.feed.crew import Crew, Feeder
from distrain.iterators.feed.layout import Layout, unpack_layout
from distrain.iterators.feed.outcome import error_of, minibatch_of, poisonous
from distrain.iterators.feed.protocol import Broken, Cancelled, Done, Failed, Hello, Work
from distrain.iterators.feed.server import Cargo, region_of
from distrain.iterators.feed.shipment import ship
from distrain.iterators.feed.statistics import Statistics
from distrain.iterators.feed.window import Job, Member, Piece, Window
from distrain.iterators.reading import Skipped

_PIECE_S = 0.005  # of work for a feeder; the messages for a piece take the rank 0.04 ms
_SLOW_S = 0.02  # a sample that takes longer holds up those behind it
_SPARE_SLOTS = 2  # the minibatch in use, and the one before it
_LOOK_S = 0.1  # between two looks at what the feeders are doing
_STOPPED_LOOKS = 10  # after which a feeder that a signal has stopped is replaced
_STACK_S = 0.2  # for a hung feeder to write down where it hangs
_STRIKES = 2  # feeders that a sample may end before it counts as poisonous
_STRIKES_FROM_OUTSIDE = 5  # the same for SIGKILL and the like, which may well be somebody else's doing
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "stopped by a signal")
_FAILED_STARTS = 3
_PENDING = 1 << 16  # messages to a feeder; there are never as many


@dataclass(frozen=True)
class Options:
    """How a feed works.

    Attributes:
        n_processes: local feeders.
        n_prefetch: minibatches that are ready or being read beside the one that is asked for, at least.
        sample_nbytes: bytes of shared memory a sample; None measures the first one.
        sample_timeout: seconds after which a feeder that still reads the same sample is replaced; None: never.
        tasks_per_feeder: pieces of work after which a feeder is replaced; None: never.
    """

    n_processes: int
    n_prefetch: int = 1
    sample_nbytes: int | None = None
    sample_timeout: float | None = None
    tasks_per_feeder: int | None = None


class Feed:
    """Reads minibatches of a dataset in other processes.

        feed = Feed(cargo, Options(n_processes=4))
        job = feed.submit([(epoch, indices)])
        columns, examples = feed.take(job)

    Args:
        cargo: the dataset, and how it is read.
        options: see `Options`.

    Attributes:
        statistics: what happened so far.
        skipped: samples that were replaced, since this list was last emptied.

    Raises:
        TransferError: the dataset cannot travel.
        FeedError: there is too little memory for it.
    """

    def __init__(self, cargo: Cargo, options: Options) -> None:
        self.statistics = Statistics()
        self.skipped: list[Skipped] = []
        self._cargo = cargo
        self._options = options
        self._window = Window()
        self._jobs: list[Job] = []  # in the order in which they are wanted
        self._uncut: list[Job] = []  # those of them that nobody works on yet
        self._layout: Layout | None = None
        self._sample_nbytes = options.sample_nbytes
        self._seconds = 0.0  # for a sample, as lately measured
        self._failed_starts = 0
        self._stopped: dict[Feeder, int] = {}
        self._hung: dict[Feeder, str] = {}
        self._problem: str | None = None
        self._pid = os.getpid()
        self._token = secrets.token_bytes(16)
        self._context = wire.new_context()
        self._hub = wire.hub(self._context, _PENDING)
        address = wire.listen_locally(self._hub)
        self._cargo_fd = ship(cargo, "dataset")
        self._arena = Arena()
        self._crew = Crew(lambda: nursery.start(address, self._token, self._arena.fd, self._cargo_fd))
        for number in range(min(options.n_processes, MAX_FEEDERS)):
            self._crew.hire(number)

    @property
    def belongs_here(self) -> bool:
        """Whether this process started it, and not the one that this one was forked from."""
        return os.getpid() == self._pid

    def depth(self, rows: int) -> int:
        """How many minibatches of so many rows should be submitted, the one that is asked for included."""
        pieces = -(-rows // self._piece_rows(rows))
        return max(self._options.n_prefetch + 1, -(-2 * self._options.n_processes // pieces) + 1)

    def submit(self, runs: list[tuple[int, list[int]]]) -> Job:
        """Orders a minibatch; take it with `take`, in the order of the submissions."""
        job = Job(runs, sum(len(indices) for _, indices in runs))
        self._jobs.append(job)
        self._uncut.append(job)
        self._cut_jobs()
        return job

    def drop_all(self) -> None:
        """Nobody wants what was submitted and not taken."""
        for job in self._jobs:
            for ticket, member in self._window.drop(job):
                self._send(member, wire.pack(["cancel", ticket]))
            job.memory = None
        self._jobs.clear()
        self._uncut.clear()

    def take(self, job: Job, patience: float | None, warn: Callable[[str], None]) -> tuple[Any, list[Any] | None]:
        """A minibatch: its columns, or else the list of its examples.

        Args:
            job: the first of those submitted and not taken.
            patience: seconds after which `warn` is told what the feeders are doing, and again after as many; None:
                never.
            warn: may raise.

        Raises:
            Exception: what the dataset raised, if it is built in; else SampleError.
            FeedError: the feeders cannot go on.
        """
        start = time.perf_counter()
        self._read_mail()
        self._assign()
        if not job.is_decided:
            self._wait(job, patience, warn)
        self.statistics.note_wait(time.perf_counter() - start, sum(other.is_decided for other in self._jobs))
        for piece in job.pieces:
            if isinstance(piece.answer, Failed):
                failure, piece.answer = piece.answer, None  # the next attempt reads it again
                self._window.waiting.insert(0, piece)
                raise error_of(failure, self._cargo.dataset)
        self._jobs.remove(job)
        # A user who keeps many minibatches gets copies, so that there always is a slot for the next one.
        result = minibatch_of(job, copy=job.slot is not None and not any(slot.is_free for slot in self._arena.slots))
        job.memory = None  # the slot is the user's now; its pieces refer to the job, so it would stay for a while
        self._cut_jobs()
        return result

    def _wait(self, job: Job, patience: float | None, warn: Callable[[str], None]) -> None:
        began = looked = warned = time.monotonic()
        while not job.is_decided:
            if self._problem is not None:
                raise FeedError(self._problem)
            self._cut_jobs()
            self._assign()
            self._steal()
            self._poll()
            now = time.monotonic()
            if now - looked >= _LOOK_S:
                looked = now
                self._look_after_feeders(now)
            if patience is not None and now - warned >= patience:
                warned = now
                warn(f"no minibatch for {now - began:.0f} s: {self._activity(now)}")

    # Work

    def _cut_jobs(self) -> None:
        """Makes pieces of minibatches for which there is memory."""
        while self._uncut:
            job = self._uncut[0]
            if self._sample_nbytes is None and not job.pieces:  # the first one shows how big a sample is
                whole = self._cargo.converter is not None
                self._window.waiting += job.cut(job.rows)[:1] if whole else [self._first_row(job)]
            if self._sample_nbytes is None:
                return
            slot = self._slot(job.rows)
            if slot is None:
                return
            del self._uncut[0]
            job.slot, job.memory, job.layout = slot, slot.lend(), self._layout
            if not job.pieces:
                self._window.waiting += job.cut(self._piece_rows(job.rows))
            elif job.pieces[-1].stop < job.rows:
                self._window.waiting += job.cut(self._piece_rows(job.rows), 1)
            for piece in job.pieces:
                self._into_columns(piece)

    @staticmethod
    def _first_row(job: Job) -> Piece:
        piece = Piece(job, 0, 1)
        job.pieces.append(piece)
        return piece

    def _slot(self, rows: int) -> Slot | None:
        """Memory for a minibatch; None if enough of them are being read or kept."""
        assert self._sample_nbytes is not None
        nbytes = self._sample_nbytes * rows
        if self._layout is not None:
            nbytes = max(nbytes, self._layout.nbytes(rows))
        slot = self._arena.free_slot(nbytes)
        if slot is None and len(self._arena.slots) < self.depth(rows) + _SPARE_SLOTS:
            slot = self._arena.add_slot(nbytes)
        return slot

    def _piece_rows(self, rows: int) -> int:
        """Rows of a piece: a few milliseconds of work, and not more than four pieces a feeder."""
        if self._cargo.converter is not None:
            return rows
        wanted = rows if not self._seconds else int(_PIECE_S / self._seconds)
        least = -(-rows // (4 * max(1, self._options.n_processes)))
        return min(rows, max(1, least, wanted))

    def _assign(self) -> None:
        """Hands out all pieces that wait, each to the feeder with the fewest."""
        waiting = self._window.waiting
        while waiting and (member := self._window.laziest()) is not None:
            piece = waiting.pop(0)
            if not self._issue(piece, member):
                waiting.insert(0, piece)
                return

    def _issue(self, piece: Piece, member: Member) -> bool:
        job = piece.job
        offset, nbytes = (0, 0) if job.slot is None else (job.slot.offset, job.slot.nbytes)
        layout = b"" if job.layout is None else job.layout.packed
        ticket = self._window.issue(piece, member)
        runs = job.runs_of(piece.start, piece.stop)
        work = Work(ticket, job.rows, piece.start, piece.stop, offset, nbytes, layout, runs)
        if self._send(member, protocol.pack_work(work)):
            return True
        self._window.settle(ticket)  # it is gone, as its pidfd will say
        return False

    def _send(self, member: Member, message: bytes) -> bool:
        try:
            self._hub.send_multipart([member, message], zmq.NOBLOCK)
        except wire.Unreachable:
            return False
        return True

    def _steal(self) -> None:
        """Gives idle feeders what others have not begun with."""
        if self._window.waiting:
            return
        now = time.monotonic()
        idle = [member for member in self._window.members if not self._window.load(member)]
        for feeder in self._crew.feeders.values() if idle else ():
            if not idle or feeder.identity not in self._window:
                continue
            progress = self._arena.progress(feeder.number)
            queued = self._window.queued(progress.ticket, feeder.identity)
            if now - progress.since < _SLOW_S:
                del queued[:1]  # it will soon begin with that
            for ticket in queued:
                piece = self._window.piece_of(ticket, feeder.identity)
                if idle and piece is not None and piece.answer is None and len(piece.tickets) == 1:
                    self._send(feeder.identity, wire.pack(["cancel", ticket]))
                    self._issue(piece, idle.pop())

    # Mail

    def _poll(self) -> None:
        """Waits a moment for mail or for a death, and sees to it."""
        poller = zmq.Poller()
        poller.register(self._hub, zmq.POLLIN)
        if self._crew.control is not None:
            poller.register(self._crew.control, zmq.POLLIN)
        for fd in self._crew.feeders:
            poller.register(fd, zmq.POLLIN)
        ready = dict(poller.poll(int(1000 * _LOOK_S)))
        if self._hub in ready:
            self._read_mail()
        self._crew.hear()
        for fd in list(self._crew.feeders):
            if fd in ready:
                self._read_mail()  # what it handed in before it died counts
                self._lose(self._crew.feeders[fd])

    def _read_mail(self) -> None:
        while True:
            try:
                member, *frames = self._hub.recv_multipart(zmq.NOBLOCK)
            except wire.Again:
                return
            try:
                self._receive(member, protocol.unpack_reply(frames))
            except WireError as error:
                self.statistics.note_refused(str(error))
                self._expel(member)

    def _receive(self, member: Member, reply: protocol.Reply) -> None:
        if isinstance(reply, Hello):
            self._welcome(member, reply)
        elif member not in self._window:
            if isinstance(reply, Broken) and self._feeder_of(member) is not None:
                self._problem = f"the dataset does not arrive in the processes that read it:\n{reply.text}"
            else:
                raise WireError("a message from a stranger")
        elif isinstance(reply, Done):
            self._accept(member, reply)
        elif isinstance(reply, (Failed, Cancelled)):
            piece = self._window.piece_of(reply.ticket, member)
            if piece is None:
                raise WireError(f"there is no ticket {reply.ticket} any more")
            self._window.settle(reply.ticket)
            if isinstance(reply, Failed):
                piece.answer = piece.answer or reply
            elif piece.answer is None and not piece.tickets and piece.job in self._jobs:
                self._window.waiting.insert(0, piece)

    def _welcome(self, member: Member, hello: Hello) -> None:
        feeder = self._feeder_of(member)
        if hello.token != self._token or hello.version != protocol.VERSION or feeder is None:
            raise WireError(f"feeder {hello.number} (pid {hello.pid}) is not one of this run's")
        if not feeder.is_ready:
            feeder.is_ready = True
            self._failed_starts = 0
            self._window.join(member)

    def _feeder_of(self, member: Member) -> Feeder | None:
        self._crew.hear()  # its hello may have been faster than the news of its birth
        return next((feeder for feeder in self._crew.feeders.values() if feeder.identity == member), None)

    def _expel(self, member: Member) -> None:
        """Ends a feeder that talks nonsense; it is replaced like any other that died."""
        feeder = self._feeder_of(member)
        if feeder is not None:
            feeder.kill()

    def _accept(self, member: Member, done: Done) -> None:
        piece = self._window.piece_of(done.ticket, member)
        if piece is None:
            raise WireError(f"there is no ticket {done.ticket} any more")
        job = piece.job
        if done.form == "columns" and job.layout is None:
            raise WireError("rows are said to be in columns that there are not")
        values = None
        if done.form != "columns" and piece.answer is None:
            values = self._unpacked(piece, done)
            if self._sample_nbytes is None:
                self._learn(piece, done, values)
        self._window.settle(done.ticket)
        rows = piece.stop - piece.start
        self._seconds = done.seconds / rows if not self._seconds else 0.9 * self._seconds + 0.1 * done.seconds / rows
        self.statistics.note_done(member, rows, done.seconds, done.slowest, done.slowest_index)
        self._count_task(member)
        if piece.answer is not None:  # another feeder was faster
            return
        piece.answer, piece.values = done, values
        self.skipped += [Skipped(*fields) for fields in done.skipped]
        if done.spilled and job.slot is not None:
            self.statistics.spilled += 1
            self._sample_nbytes = max(
                self._sample_nbytes or 0, -(-(job.slot.nbytes + done.spilled) * 5 // (4 * job.rows))
            )
        self._into_columns(piece)

    def _unpacked(self, piece: Piece, done: Done) -> list[Any]:
        """The values in the payload, which are as many as the form says."""
        job = piece.job
        region = parcels.NO_REGION
        if job.memory is not None:
            region = job.memory
            if done.form == "examples":
                region = region_of(job.memory, piece.start, piece.stop, job.rows)
        values = parcels.unpacked(region, done.payload)
        expected = piece.stop - piece.start if done.form == "examples" else 1
        if len(values) != expected or (done.form == "batch") != (self._cargo.converter is not None):
            raise WireError(f"{len(values)} values came in the form {done.form!r} for {expected} rows")
        return values

    def _learn(self, piece: Piece, done: Done, values: list[Any]) -> None:
        """What the first answer shows: the size of a sample, and the layout."""
        rows = piece.stop - piece.start
        nbytes = sum(memoryview(frame).nbytes for frame in done.payload)
        if done.layout:
            self._layout = unpack_layout(done.layout)
            self._sample_nbytes = self._layout.row_nbytes
        else:
            self._sample_nbytes = -(-5 * nbytes // (4 * rows))  # others will be larger

    def _into_columns(self, piece: Piece) -> None:
        """Writes the rows of an answer that came by itself to the columns, if there are any that they fit."""
        job, values = piece.job, piece.values
        if values is None or job.layout is None or job.memory is None or not isinstance(piece.answer, Done):
            return
        views = job.layout.views(job.memory, job.rows)
        if piece.answer.form == "parcel":
            fits = job.layout.write_columns(views, piece.start, values[0], piece.stop - piece.start)
        elif piece.answer.form == "examples":
            fits = job.layout.write_examples(views, piece.start, values)
        else:
            return
        if fits:
            piece.values = None

    # Supervision

    def _count_task(self, member: Member) -> None:
        limit = self._options.tasks_per_feeder
        feeder = self._feeder_of(member) if limit is not None else None
        if limit is None or feeder is None:
            return
        feeder.done += 1
        if feeder.done >= limit and self._window.load(member) == 0:
            self._window.leave(member)
            self._send(member, wire.pack(["stop"]))

    def _look_after_feeders(self, now: float) -> None:
        self._crew.check()
        timeout = self._options.sample_timeout
        for feeder in list(self._crew.feeders.values()):
            if feeder.identity not in self._window or not self._window.load(feeder.identity):
                continue
            since = self._arena.progress(feeder.number).since
            if timeout is not None and since and now - since > timeout:
                self._end(feeder, f"no end after {timeout:g} s")
            elif feeder.is_stopped:
                self._stopped[feeder] = self._stopped.get(feeder, 0) + 1
                if self._stopped[feeder] >= _STOPPED_LOOKS:
                    self._end(feeder, "stopped by a signal")
            else:
                self._stopped.pop(feeder, None)

    def _end(self, feeder: Feeder, reason: str) -> None:
        self._hung[feeder] = reason
        feeder.write_stack()
        time.sleep(_STACK_S)
        feeder.kill()

    def _lose(self, feeder: Feeder) -> None:
        """A feeder is dead: its work goes to others, and another one takes its place."""
        progress = self._arena.progress(feeder.number)
        cause = self._crew.bury(feeder)
        cause = self._hung.pop(feeder, cause)
        words = feeder.last_words()
        self._stopped.pop(feeder, None)
        suspect = self._window.piece_of(progress.ticket, feeder.identity)
        retired = feeder.is_ready and feeder.identity not in self._window
        orphans = self._window.leave(feeder.identity)
        self._window.waiting[:0] = [piece for piece in orphans if piece.job in self._jobs]
        if suspect in orphans:
            self._suspect(suspect, progress.row, cause, words)
        if not feeder.is_ready:
            self._failed_starts += 1
            if self._failed_starts == _FAILED_STARTS:
                self._problem = f"feeders end before they are ready ({cause}).\n{words}".rstrip()
        if not retired:
            self.statistics.note_respawn(feeder.number, feeder.pid, cause)
        self._arena.forget(feeder.number)
        feeder.close()
        self._crew.hire(feeder.number)

    def _suspect(self, piece: Piece, row: int, cause: str, words: str) -> None:
        """A feeder has died over a row of this piece: the row is read alone from now on, and not for ever."""
        if piece not in self._window.waiting or not piece.start <= row < piece.stop:
            return
        job = piece.job
        if piece.stop - piece.start > 1 and self._cargo.converter is None:
            at = self._window.waiting.index(piece)
            parts = job.isolate(piece, row)
            self._window.waiting[at : at + 1] = parts
            piece = next(part for part in parts if part.start == row)
        piece.strikes += 1
        if piece.strikes < (_STRIKES_FROM_OUTSIDE if cause in _FROM_OUTSIDE else _STRIKES):
            return
        failure = poisonous(job, row, piece.strikes, cause, words)
        if self._cargo.on_error == "skip" and piece.substitutes < len(self._cargo.dataset):
            substitute = (failure.index + 1) % len(self._cargo.dataset)
            job.substitute(row, substitute)
            piece.strikes, piece.substitutes = 0, piece.substitutes + 1
            self.skipped.append(Skipped(failure.epoch, failure.index, substitute, failure.message))
            return
        self._window.waiting.remove(piece)
        piece.answer = failure

    def _activity(self, now: float) -> str:
        """What the feeders are doing, for a warning."""
        lines = []
        for feeder in self._crew.feeders.values():
            progress = self._arena.progress(feeder.number)
            piece = self._window.piece_of(progress.ticket, feeder.identity)
            state = "is starting" if not feeder.is_ready else "has nothing to do"
            if piece is not None and piece.start <= progress.row < piece.stop:
                epoch, index = piece.job.sample(progress.row)
                state = f"reads sample {index} (epoch {epoch}) since {now - progress.since:.1f} s"
            lines.append(f"feeder {feeder.number} (pid {feeder.pid}) {state}")
        return "; ".join(lines) or "the feeders are being started"

    def close(self) -> None:
        """Ends the feeders. Arrays that were handed out stay good."""
        if not self.belongs_here or self._cargo_fd < 0:
            return
        for member in list(self._window.members):
            self._send(member, wire.pack(["stop"]))
        self._crew.close()
        self._context.destroy(linger=0)
        os.close(self._cargo_fd)
        self._cargo_fd = -1
        self._jobs.clear()
        self._uncut.clear()
        self._window = Window()
        self._arena.close()
