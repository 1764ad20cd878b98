"""The rank's side of the feed: hands out the rows of minibatches, and puts together what comes back.

There is no thread. All that is wanted next is handed out at once, and ZeroMQ carries it while the rank trains; the rank
looks at its mail when it takes a minibatch, and looks after its feeders while it waits for one. So nothing competes
with the training for the interpreter, and there is nothing that could hang at the end of the program.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from distrain import wire
from distrain.errors import DistrainError, WireError
from distrain.iterators.feed import nursery, protocol
from distrain.iterators.feed.arena import MAX_FEEDERS, Arena, Slot
from distrain.iterators.feed.crew import Crew
from distrain.iterators.feed.intake import unpacked, write_into_columns
from distrain.iterators.feed.outcome import error_of, minibatch_of
from distrain.iterators.feed.protocol import Broken, Cancelled, Done, Failed, Hello, Work
from distrain.iterators.feed.remote_crew import RemoteCrew
from distrain.iterators.feed.samples import Samples
from distrain.iterators.feed.server import Cargo
from distrain.iterators.feed.shipment import ship
from distrain.iterators.feed.statistics import Statistics
from distrain.iterators.feed.supervisor import LOOK_S, Supervisor
from distrain.iterators.feed.window import Job, Member, Piece, Window
from distrain.iterators.reading import Skipped
from distrain.iterators.staging import pin

_SLOW_S = 0.02  # a sample that takes longer holds up those behind it
_SPARE_SLOTS = 2  # the minibatch in use, and the one before it
_PENDING = 1 << 16  # messages to a feeder; there are never as many


@dataclass(frozen=True)
class Options:
    """How a feed works.

    Attributes:
        n_processes: local feeders.
        n_prefetch: minibatches that are ready or being read beside the one that is asked for, at least.
        sample_nbytes: bytes of shared memory a sample, at least; None measures the first one.
        sample_timeout: seconds after which a feeder that still reads the same sample is replaced; None: never.
        tasks_per_feeder: pieces of work after which a feeder is replaced; None: never.
        is_pinned: whether a GPU is to read minibatches from where they lie.
        endpoint: where to listen for feeders on other hosts, `tcp://host:port`; None: nowhere.
        keys: the folder of the keys for that.
    """

    n_processes: int
    n_prefetch: int = 1
    sample_nbytes: int | None = None
    sample_timeout: float | None = None
    tasks_per_feeder: int | None = None
    is_pinned: bool = False
    endpoint: str | None = None
    keys: Path = Path()


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
        FeedError: there is too little memory for it, or the keys for other hosts cannot be used.
        ArgumentError: the endpoint cannot be taken.
    """

    def __init__(self, cargo: Cargo, options: Options) -> None:
        self.statistics = Statistics()
        self.skipped: list[Skipped] = []
        self._cargo = cargo
        self._options = options
        self._window = Window()
        self._jobs: list[Job] = []  # in the order in which they are wanted
        self._uncut: list[Job] = []  # those of them that nobody works on yet
        self._samples = Samples(options.sample_nbytes or 0)
        self._pid = os.getpid()
        self._cargo_fd = ship(cargo if options.n_processes else None, "dataset")
        self._remote = self._remote_crew()
        self._context = wire.new_context()
        self._hub = wire.hub(self._context, _PENDING)
        address = wire.listen_locally(self._hub)
        self._arena = Arena()
        token = secrets.token_bytes(16)
        self._crew = Crew(lambda: nursery.start(address, token, self._arena.fd, self._cargo_fd))
        self._supervisor = Supervisor(
            self._crew,
            self._window,
            self._arena,
            cargo,
            token,
            options.sample_timeout,
            options.tasks_per_feeder,
            self.statistics,
            self.skipped,
            self._send,
        )
        for number in range(min(options.n_processes, MAX_FEEDERS)):
            self._crew.hire(number)

    def _remote_crew(self) -> RemoteCrew | None:
        options = self._options
        if options.endpoint is None:
            return None
        try:
            return RemoteCrew(
                options.endpoint,
                options.keys,
                self._cargo,
                options.sample_timeout,
                self._window,
                lambda *suspicion: self._supervisor.suspect(*suspicion),
                self.statistics,
            )
        except DistrainError:
            os.close(self._cargo_fd)
            raise

    @property
    def belongs_here(self) -> bool:
        """Whether this process started it, and not the one that this one was forked from."""
        return os.getpid() == self._pid

    @property
    def address(self) -> str | None:
        """Where feeders on other hosts connect to; None if they cannot."""
        return None if self._remote is None else self._remote.address

    @property
    def _n_feeders(self) -> int:
        return self._options.n_processes + (0 if self._remote is None else len(self._remote))

    def _is_remote(self, member: Member) -> bool:
        return self._remote is not None and member in self._remote

    def depth(self, rows: int) -> int:
        """How many minibatches of so many rows should be submitted, the one that is asked for included."""
        pieces = -(-rows // self._piece_rows(rows))
        return max(self._options.n_prefetch + 1, -(-2 * self._n_feeders // pieces) + 1)

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
        self.statistics.note_wait(time.perf_counter() - start)
        for piece in job.pieces:
            if isinstance(piece.answer, Failed):
                failure, piece.answer = piece.answer, None  # the next attempt reads it again
                self._window.waiting.insert(0, piece)
                raise error_of(failure, self._cargo.dataset)
        self._jobs.remove(job)
        result = minibatch_of(job, copy=self._is_scarce(job))
        job.let_go()  # the slot is the user's now
        self._cut_jobs()
        return result

    def _is_scarce(self, job: Job) -> bool:
        """Whether a minibatch is copied out of its slot.

        A user who keeps many gets copies, so that there always is a slot for the next one; and a feeder that was too
        slow may still write into this one, over what the user writes.
        """
        slot = job.slot
        return slot is not None and (bool(slot.pending) or not self._has_room(job.rows))

    def stats(self) -> dict[str, Any]:
        """The statistics, and how many minibatches are there."""
        return {**self.statistics.as_dict(), "ready": sum(job.is_decided for job in self._jobs)}

    def is_ready(self, job: Job) -> bool:
        """Whether `take` would give the minibatch at once."""
        self._read_mail()
        return job.is_decided and not any(isinstance(piece.answer, Failed) for piece in job.pieces)

    def _wait(self, job: Job, patience: float | None, warn: Callable[[str], None]) -> None:
        began = warned = time.monotonic()
        while not job.is_decided:
            self._supervisor.check_problem()
            self._cut_jobs()
            self._assign()
            self._steal()
            self._poll()
            now = time.monotonic()
            self._supervisor.look(now)
            if self._remote is not None:
                self._remote.look(now)
            if patience is not None and now - warned >= patience:
                warned = now
                warn(f"no minibatch for {now - began:.0f} s: {self._activity(now)}")

    def _activity(self, now: float) -> str:
        local = [self._supervisor.activity()] if self._options.n_processes else []
        return "; ".join(local + ([] if self._remote is None else [self._remote.activity(now)]))

    # Work

    def _cut_jobs(self) -> None:
        """Makes pieces of minibatches for which there is memory."""
        while self._uncut:
            job = self._uncut[0]
            if self._samples.nbytes is None and not job.pieces:  # the first one shows how big a sample is
                whole = self._cargo.converter is not None
                self._window.waiting += job.cut(job.rows)[:1] if whole else [self._first_row(job)]
            if self._samples.nbytes is None:
                return
            slot = self._slot(job.rows)
            if slot is None:
                return
            del self._uncut[0]
            job.slot, job.memory, job.layout = slot, slot.lend(), self._samples.layout
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
        nbytes = self._samples.minibatch_nbytes(rows)
        slot = self._arena.free_slot(nbytes)
        if slot is None and self._may_grow(rows):
            slot = self._arena.add_slot(nbytes)
            if self._options.is_pinned:
                pin(slot, slot.address, slot.nbytes)
        return slot

    def _may_grow(self, rows: int) -> bool:
        return len(self._arena.slots) < self.depth(rows) + _SPARE_SLOTS

    def _has_room(self, rows: int) -> bool:
        """Whether there is a slot for one more minibatch, or may be."""
        return any(slot.is_free for slot in self._arena.slots) or self._may_grow(rows)

    def _piece_rows(self, rows: int) -> int:
        return rows if self._cargo.converter is not None else self._samples.piece_rows(rows, self._n_feeders)

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
        remote = self._is_remote(member)
        offset, nbytes = (0, 0) if job.slot is None or remote else (job.slot.offset, job.slot.nbytes)
        layout = b"" if job.layout is None else job.layout.packed
        ticket = self._window.issue(piece, member, into_slot=not remote)
        runs = job.runs_of(piece.start, piece.stop)
        work = Work(ticket, job.rows, piece.start, piece.stop, offset, nbytes, layout, runs)
        if self._send(member, protocol.pack_work(work)):
            return True
        self._window.settle(ticket)  # it is gone, as its pidfd or the next look will say
        return False

    def _send(self, member: Member, message: bytes) -> bool:
        if self._remote is not None and member in self._remote:
            return self._remote.send(member, message)
        return wire.send_to(self._hub, member, message)

    def _steal(self) -> None:
        """Gives idle feeders what others have not begun with."""
        if self._window.waiting:
            return
        idle = [member for member in self._window.members if self._window.is_idle(member)]
        for member, queued in self._queued(time.monotonic()) if idle else ():
            for ticket in queued:
                piece = self._window.piece_of(ticket, member)
                if idle and piece is not None and piece.answer is None and len(piece.tickets) == 1:
                    self._send(member, wire.pack(["cancel", ticket]))
                    self._issue(piece, idle.pop())

    def _queued(self, now: float) -> Iterator[tuple[Member, list[int]]]:
        """Feeders and their tickets that they have not begun with, and will not at once."""
        for feeder in self._crew.feeders.values():
            if feeder.identity in self._window:
                progress = self._arena.progress(feeder.number)
                queued = self._window.queued(progress.ticket, feeder.identity)
                yield feeder.identity, queued[1:] if now - progress.since < _SLOW_S else queued
        if self._remote is not None:
            yield from self._remote.queued(now)

    # Mail

    def _poll(self) -> None:
        """Waits a moment for mail or for a death, and sees to it."""
        poller = zmq.Poller()
        poller.register(self._hub, zmq.POLLIN)
        if self._crew.control is not None:
            poller.register(self._crew.control, zmq.POLLIN)
        for fd in self._crew.feeders:
            poller.register(fd, zmq.POLLIN)
        if self._remote is not None:
            self._remote.register(poller)
        ready = dict(poller.poll(int(1000 * LOOK_S)))
        self._read_mail()
        self._crew.hear()
        for fd in list(self._crew.feeders):
            if fd in ready:
                self._read_mail()  # what it handed in before it died counts
                self._supervisor.lose(self._crew.feeders[fd])

    def _read_mail(self) -> None:
        if self._remote is not None:
            self._remote.read(self._receive)
        for member, frames in wire.waiting_messages(self._hub):
            if self._supervisor.is_former(member):
                continue
            try:
                self._receive(member, protocol.unpack_reply(frames))
            except WireError as error:
                self.statistics.note_refused(str(error))
                self._supervisor.expel(member, str(error))

    def _receive(self, member: Member, reply: protocol.Reply) -> None:
        if isinstance(reply, Hello):
            self._supervisor.welcome(member, reply)
        elif member not in self._window:
            if isinstance(reply, Broken) and self._supervisor.feeder_of(member) is not None:
                self._supervisor.problem = f"the dataset does not arrive in the processes that read it:\n{reply.text}"
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
            elif piece.answer is None and not piece.tickets and piece.job.is_wanted:
                self._window.waiting.insert(0, piece)
            self._supervisor.let_retire(member)

    def _accept(self, member: Member, done: Done) -> None:
        piece = self._window.piece_of(done.ticket, member)
        if piece is None:
            raise WireError(f"there is no ticket {done.ticket} any more")
        job = piece.job
        if done.form == "columns" and job.layout is None:
            raise WireError("rows are said to be in columns that there are not")
        values, is_late = None, piece.answer is not None or not job.is_wanted
        if done.form != "columns" and not is_late:
            values = unpacked(piece, done, self._is_remote(member), self._cargo.converter is not None)
        self._window.settle(done.ticket)
        rows = piece.stop - piece.start
        self._samples.note(done, rows)
        self.statistics.note_done(member, rows, done.seconds, done.slowest, done.slowest_index)
        self._supervisor.count_task(member)
        if is_late:  # another feeder was faster, or the minibatch is not wanted any more
            return
        piece.answer, piece.values = done, values
        self.skipped += [Skipped(*fields) for fields in done.skipped]
        if done.spilled and job.slot is not None:
            self.statistics.spilled += 1
            self._samples.note_spilled(job.slot.nbytes + done.spilled, job.rows)
        self._into_columns(piece)

    def _into_columns(self, piece: Piece) -> None:
        if not write_into_columns(piece):
            self._samples.give_up_layout()  # the next minibatches lie in regions

    def close(self) -> None:
        """Ends the feeders. Arrays that were handed out stay good."""
        if not self.belongs_here or self._cargo_fd < 0:
            return
        for member in list(self._window.members):
            self._send(member, wire.pack(["stop"]))
        self._crew.close()
        if self._remote is not None:
            self._remote.close()
        self._context.destroy(linger=0)
        os.close(self._cargo_fd)
        self._cargo_fd = -1
        self._jobs.clear()
        self._uncut.clear()
        self._window = Window()
        self._arena.close()
