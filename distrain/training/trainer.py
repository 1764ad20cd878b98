"""The training loop."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any

from distrain import black_box
from distrain import comm as comm_module
from distrain.clock import clock
from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.reporting import RankState, Reporter
from distrain.training import dry_run, output, stopping
from distrain.training.attempts import Attempt
from distrain.training.budget import Budget
from distrain.training.entries import Active, Entry, agree_on_ranks, entry_of, split_active
from distrain.training.extension import RunsOn
from distrain.training.extensions.snapshot import Snapshot
from distrain.training.persistents import average_over_ranks
from distrain.training.same_data import require_same_data
from distrain.training.side_channel import SideChannel
from distrain.training.snapshot_files import continue_job
from distrain.training.stopping import Stopping
from distrain.training.triggers import agreement
from distrain.training.triggers.trigger import get_trigger, never
from distrain.training.updater import Updater


class Trainer:
    """Calls an updater until a trigger says stop, and extensions in between.

        trainer = training.Trainer(updater, (20, "epoch"), out="result")
        trainer.extend(extensions.Evaluator(test_iter, model))
        trainer.extend(extensions.LogReport())
        trainer.run()

    On several ranks all of them run the loop. Extensions that only show or write something run on rank 0. When the
    training is complete, floating persistent values of the models are replaced by their means over the ranks.

    Args:
        updater: makes one step a call.
        stop_trigger: when to stop: `(20, "epoch")`, a function of the trainer, or None for never.
        out: directory for everything that extensions write.
        extensions: registered as by `extend(extension)`.

    Attributes:
        updater, stop_trigger, out: as given.
        observation: what was reported in this iteration, by name; on several ranks, what this one has reported.
        reporter: collects it.
        side_channel: by which the ranks tell rank 0 how they are.
    """

    def __init__(
        self,
        updater: Updater,
        stop_trigger: Any = None,
        out: str | os.PathLike[str] = "result",
        extensions: Iterable[Any] | None = None,
    ) -> None:
        self.updater = updater
        self.stop_trigger = get_trigger(stop_trigger)
        self.out = os.fspath(out)
        self.observation: dict[str, Any] = {}
        self.reporter = Reporter()
        self.side_channel = SideChannel()
        self._entries: dict[str, Entry] = {}
        self._comm: Communicator | None = None
        self._stop_asked_at = -1  # iteration
        self._stops = False
        self._last_words: str | None = None  # of a training that a signal has stopped
        self._running: str | None = None  # the extension that is at work, for error messages
        self._started: float | None = None
        self._final_elapsed_time: float | None = None
        self._snapshot_elapsed_time = 0.0
        for name, optimizer in updater.get_all_optimizers().items():
            self.reporter.add_observer(name, optimizer.target)
            self.reporter.add_observers(name, optimizer.target.namedlinks(skipself=True))
        updater.connect_trainer(self)
        for extension in extensions or ():
            self.extend(extension)

    @property
    def comm(self) -> Communicator:
        """The ranks that train together: those of the updater, or the job's world."""
        if self._comm is None:
            self._comm = getattr(self.updater, "comm", None) or comm_module.world()
        return self._comm

    @property
    def elapsed_time(self) -> float:
        """Seconds of training so far, those before a resume included."""
        if self._final_elapsed_time is not None:
            return self._final_elapsed_time
        if self._started is None:
            return self._snapshot_elapsed_time
        return time.perf_counter() - self._started + self._snapshot_elapsed_time

    @property
    def rank_states(self) -> list[RankState]:
        """How all ranks are, on rank 0; an empty list on the others, and before the training starts."""
        return self.side_channel.rank_states()

    @property
    def is_before_training(self) -> bool:
        """Whether no step has been made yet."""
        return self.updater.iteration == 0

    def extend(
        self,
        extension: Any,
        name: str | None = None,
        trigger: Any = None,
        priority: int | None = None,
        *,
        call_before_training: bool = False,
        invoke_before_training: bool = False,
        runs_on: RunsOn | None = None,
    ) -> None:
        """Registers an extension: an `Extension`, or any function of the trainer.

        Args:
            extension: what to call.
            name: to find it by; its own by default. The second of a name gets `_1` appended, the third `_2` …
            trigger: when it runs; its own by default, else every iteration. See `get_trigger`.
            priority: higher runs first, equal ones in the order of registration; its own by default.
            call_before_training: also call it once before the first step.
            invoke_before_training: the older name of `call_before_training`.
            runs_on: "all" ranks or "rank0"; its own by default, else "all", for it may change the training.

        Raises:
            ArgumentError: it cannot be called, or the trigger, the name or `runs_on` is impossible.
        """
        entry = entry_of(
            extension,
            name,
            trigger,
            priority,
            call_before_training or invoke_before_training,
            runs_on,
            taken=self._entries,
        )
        self._entries[entry.name] = entry

    def get_extension(self, name: str) -> Any:
        """The extension of that name.

        Raises:
            ArgumentError: there is none.
        """
        if name not in self._entries:
            names = ", ".join(map(repr, self._entries)) or "none"
            raise ArgumentError(f"there is no extension {name!r}; registered are {names}")
        return self._entries[name].extension

    def extensions(self) -> list[Any]:
        """All extensions in the order in which they run, those of other ranks included."""
        return [entry.extension for entry in self._sorted_entries()]

    def _sorted_entries(self) -> list[Entry]:
        return sorted(self._entries.values(), key=lambda entry: -entry.priority)

    def run(self, show_loop_exception_msg: bool = True) -> None:
        """Trains until the stop trigger fires; returns at once if the training is complete already.

        Every `finalize` is called, whatever happens. An exception of the loop comes out as it was raised, with a note
        for each that followed it.

        SIGTERM, SIGUSR1 or SIGUSR2 on any rank, unless the script handles it, stops the training after a step that is
        the same on all ranks. The extensions of that step run, the trainer is saved by its `snapshot()`, and the job
        ends with the code 75, which asks for another start. A second signal ends it at once.

        Args:
            show_loop_exception_msg: print an exception before the extensions are finalized, which may take long.

        Raises:
            SystemExit: with code 0, at the end of a dry run, see `dry_run`; with code 75 after a signal.
            ArgumentError: it has run already, `out` cannot be written to, or another job trains there.
        """
        if self._final_elapsed_time is not None:
            raise ArgumentError("this trainer has run already; make a new one to train on")
        rank = self.comm.rank
        entries = [entry for entry in self._sorted_entries() if entry.runs_on == "all" or rank == 0]
        self._started = time.perf_counter()
        try:
            figures = dry_run.Figures() if dry_run.is_on(self.comm) else None
            place = output.claim(self.out, self.comm) if figures is None else dry_run.aside(self)
        except BaseException as error:  # no `on_error`: it could write to a directory that is another job's
            if show_loop_exception_msg:
                self._show(error)
            self._finalize(entries, error)
            raise
        with place:
            self._train(entries, show_loop_exception_msg, figures)
        if figures is not None:
            self.comm.print(figures.summary(self.comm, self.out))
            raise SystemExit(0)
        if self._last_words is not None:
            stopping.say(self.comm, self._last_words)
            raise SystemExit(stopping.CODE)

    def _train(self, entries: list[Entry], show_loop_exception_msg: bool, figures: dry_run.Figures | None) -> None:
        """The loop or the dry run, and what must be done after it in any case."""
        try:
            with self.reporter:
                self._loop(entries) if figures is None else self._rehearse(entries, figures)
        except BaseException as error:
            self.side_channel.fail(error)
            if show_loop_exception_msg:
                self._show(error)
            for entry in entries:
                if handler := getattr(entry.extension, "on_error", None):
                    _call(f"on_error of {entry.name}", error, handler, self, error, error.__traceback__)
            self._finalize(entries, error)
            raise
        failure = self._finalize(entries, None)
        if failure is not None:
            raise failure
        black_box.end_training(self.elapsed_time)

    def _finalize(self, entries: list[Entry], failure: BaseException | None) -> BaseException | None:
        """Calls every `finalize`; returns the first exception, which notes the others."""
        self._final_elapsed_time = self.elapsed_time
        for entry in entries:
            if finalizer := getattr(entry.extension, "finalize", None):
                failure = _call(f"finalize of {entry.name}", failure, finalizer)
        failure = _call("finalize of the updater", failure, self.updater.finalize)
        return _call("the end of the side channel", failure, self.side_channel.close)

    def _begin(self, entries: list[Entry]) -> bool:
        """Everything before the first step; returns whether the training is complete already."""
        self._agree_with_ranks()
        self.side_channel.open(self)
        for entry in entries:
            self._running = entry.name
            if restorer := getattr(entry.extension, "before_initialize", None):
                restorer(self)
        self._running = None
        snapshots = [entry.extension for entry in self._entries.values() if isinstance(entry.extension, Snapshot)]
        continue_job(self, [snapshot.filename for snapshot in snapshots if snapshot.saves_trainer])
        black_box.begin_training(self._snapshot_elapsed_time)
        is_over = getattr(self.stop_trigger, "is_over", None)
        complete = bool(is_over and is_over(self))  # resumed from its last snapshot
        for entry in entries:
            self._running = entry.name
            if initializer := getattr(entry.extension, "initialize", None):
                initializer(self)
        for entry in () if complete else entries:
            self._running = entry.name
            if entry.call_before_training:
                entry.extension(self)
        self._running = None
        return complete

    def _rehearse(self, entries: list[Entry], figures: dry_run.Figures) -> None:
        """One step, and each extension that can ever run."""
        self._begin(entries)
        with self.reporter.scope({}):
            self.observation = self.reporter.observation = {}
            figures.time("the first step", self.updater.update)
            for entry in entries:
                if entry.trigger is not never:
                    self._running = entry.name
                    figures.time(entry.name, entry.extension, self)
            self._running = "the snapshot of the dry run"
            figures.save_and_load(self)
        self._running = None

    def _loop(self, entries: list[Entry]) -> None:
        """From the first agreement to the last step."""
        if self._begin(entries):
            return
        updater = self.updater
        update = updater.update
        side, quick = self.side_channel, self.side_channel.quick
        reporter = self.reporter
        active, last = split_active(self._sorted_entries(), entries)
        with reporter.scope({}), Stopping(self.comm) as signals, Attempt(self.out, self.comm) as attempt:
            budget = Budget(self.comm, signals.grace_s)
            while not self.stops():
                self.observation = reporter.observation = {}
                update()
                black_box.note(updater.iteration)
                side.beat(updater.iteration)
                for trigger, extension, name in active:
                    self._running = name
                    if trigger(self):
                        if name not in quick:
                            side.enter(name)
                        start = time.perf_counter()
                        extension(self)
                        clock.note(name, start)
                        if name not in quick:
                            side.leave(name)
                budget.lap()
                if last and self._save(last):
                    budget.saved()
                self._running = None
                if signals.is_now() and not self.stops():
                    attempt.stop(signals.signal)
                    self._last_words = stopping.save(self, self._sorted_entries(), entries, signals)
                    return
        for optimizer in self.updater.get_all_optimizers().values():
            average_over_ranks(optimizer.target, self.comm)

    def _save(self, savers: list[Active]) -> bool:
        """Calls the savers that are due; returns whether any was. Each file has the state after this iteration of all
        triggers and savers."""
        due = []
        for trigger, saver, name in savers:
            self._running = name
            if trigger(self):
                due.append((saver, name))
                if announce := getattr(saver, "announce", None):
                    announce(self)
        for saver, name in due:
            self._running = name
            self.side_channel.enter(name)
            start = time.perf_counter()
            saver(self)
            clock.note(name, start)
            self.side_channel.leave(name)
        return bool(due)

    def stops(self) -> bool:
        """Whether this iteration is the last. The stop trigger is asked once an iteration, so that a snapshot can have
        its state after it; a collective call."""
        if self._stop_asked_at != self.updater.iteration:
            self._stop_asked_at = self.updater.iteration
            self._stops = self.stop_trigger(self)
        return self._stops

    def gather(self) -> None:
        """Moves to rank 0 what the extensions and triggers of other ranks have summed up, for a snapshot; a collective
        call, allowed at any time."""
        for optimizer in self.updater.get_all_optimizers().values():
            if gather := getattr(optimizer, "gather", None):
                gather()
        for entry in self._sorted_entries():
            if gather := getattr(entry.extension, "gather", None):
                gather()
            agreement.gather(entry.trigger)
        agreement.gather(self.stop_trigger)

    def _agree_with_ranks(self) -> None:
        """Compares the data, and keeps extensions and triggers that are not on every rank from waiting for others."""
        if self.comm.size == 1:
            return
        iterators = {f"iterator {name!r}": one for name, one in getattr(self.updater, "_iterators", {}).items()}
        require_same_data(self.comm, iterators)
        agree_on_ranks(self.comm, self._entries)

    def _show(self, error: BaseException) -> None:
        comm = self.comm
        where = f", in extension {self._running}" if self._running else ""
        sys.stderr.write(
            f"Exception in main training loop: rank {comm.rank} of {comm.size} on {socket.gethostname()}, "
            f"iteration {self.updater.iteration}{where}: {type(error).__name__}: {error}\n"
            f"Traceback (most recent call last):\n{''.join(traceback.format_tb(error.__traceback__))}"
            "Will finalize trainer extensions and updater before reraising the exception.\n"
        )
        sys.stderr.flush()

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the whole state of the training.

        Extensions that the file does not know start afresh; one warning names what was missing.
        """
        self.updater.serialize(serializer["updater"])
        lenient = serializer.lenient()
        _serialize(self.stop_trigger, lenient["stop_trigger"])
        for name, entry in self._entries.items():
            _serialize(entry.extension, lenient["extensions"][name])
            _serialize(entry.trigger, lenient["extension_triggers"][name])
        elapsed = lenient("_snapshot_elapsed_time", self.elapsed_time)
        if not serializer.is_writer:
            self._snapshot_elapsed_time = elapsed


def _serialize(obj: Any, serializer: Any) -> None:
    if hasattr(obj, "serialize"):
        obj.serialize(serializer)


def _call(what: str, failure: BaseException | None, function: Any, *args: Any) -> BaseException | None:
    """Calls a handler; what it raises becomes a note on an earlier failure, or the failure if there is none."""
    try:
        function(*args)
    except BaseException as error:
        if failure is None:
            error.add_note(f"raised in {what}")
            return error
        if error is not failure:
            failure.add_note(f"Afterwards {what} raised:\n{''.join(traceback.format_exception(error)).rstrip()}")
    return failure
