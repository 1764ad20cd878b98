"""The main process's side of the processes that train on the other devices: starts, orders, and buries them.

Guarantees: the main process waits for no worker for ever. One that has ended is noticed at once; one that is stopped
(SIGSTOP) for longer than `DISTRAIN_COLLECTIVE_TIMEOUT` seconds (30) ends the training; one that works for longer is
named, and ends it after ten times as long, as the ranks of a job do. What usually takes long may take five times that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from multiprocessing.connection import wait
from typing import Any, TypeVar

from distrain.comm.deadlines import Deadlines
from distrain.comm.watch import VARIABLE, timeout_s
from distrain.env import THREAD_VARIABLES, without_launcher
from distrain.errors import WireError, WorkerError
from distrain.training.updaters.group import Group, Hub
from distrain.training.updaters.messages import (
    Done,
    Failed,
    Load,
    Meet,
    Save,
    Saved,
    Step,
    Stop,
    Sum,
    Summed,
    Tell,
    receive,
    send,
)
from distrain.training.updaters.shared import SharedArrays
from distrain.training.updaters.worker import SHOW_STACKS, Cargo
from distrain.training.updaters.worker_process import WorkerProcess

_GRACE_S = 2.0  # for workers that have nothing to do, to end
_STATE_S = 5.0  # for them to say where their iterators are, at the end
_LOOK_S = 0.5  # how often one looks after those that do not answer; shorter waits are not worth a note
_END = 10  # times the limit, after which one that works does not answer any more
_ADVICE = (
    "Open files, connections and locks where they are first needed, or leave them out in __getstate__; or use "
    "ParallelUpdater, which works in one process."
)

A = TypeVar("A")


class _Round:
    """Waiting for one answer of each worker that owes one.

    Attributes:
        answers: those that have come.
        began, looked: when, and when one last looked after those that are missing.
        limit_s: after which they are named.
        is_named: whether they have been.
    """

    def __init__(self, limit_s: float) -> None:
        self.answers: dict[WorkerProcess, Any] = {}
        self.began = self.looked = time.monotonic()
        self.limit_s = limit_s
        self.is_named = False


class Workers:
    """The processes of all devices but the first.

    Args:
        cargo: what they get.
        shared: parameters and gradients; its file is closed here.

    Attributes:
        problem: why they cannot go on, once that is so. All of them have ended then.

    Raises:
        TransferError: something in the cargo cannot travel to another process.
        FeedError: there is too little memory for it.
    """

    def __init__(self, cargo: Cargo, shared: SharedArrays) -> None:
        self.problem: str | None = None
        self._workers: list[WorkerProcess] = []
        self._shared = shared
        self._owner = os.getpid()
        self._is_reading = False
        self._limit_s = timeout_s(os.environ.get(VARIABLE))
        self._deadlines, self._calls = Deadlines(self._limit_s), Counter[str]()
        self._summing: _Round | None = None
        try:
            if len(cargo.devices) > 1:
                self._start(cargo)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(shared.fd)

    def _start(self, cargo: Cargo) -> None:
        from distrain.iterators.feed.shipment import ship

        cargo_fd = ship(cargo._asdict(), "training", "the processes of the other devices", _ADVICE)
        try:
            environment = _environment(len(cargo.devices))
            for number, device in enumerate(cargo.devices[1:], start=1):
                self._workers.append(
                    WorkerProcess(number, device, cargo_fd, self._shared.fd, environment, self._limit_s)
                )
        finally:
            os.close(cargo_fd)

    def order(self, step: Step) -> None:
        """Hands out the parameters and lets all of them begin a step. An earlier one that was broken off ends first.

        Raises:
            WorkerError: one has failed in an earlier step.
        """
        self._settle()
        self._shared.write_numbers()
        self._send([step] * len(self._workers))

    def answers(self) -> list[Done]:
        """Waits until the step is done; the answers in the order of the devices.

        Raises:
            WorkerError: one has raised an exception or has ended.
        """
        return self._collect(Done)

    def meet(self) -> Group:
        """Lets them start NCCL; returns the group through which this process takes part.

        Raises:
            WorkerError: one has failed in an earlier step.
        """
        self._settle()
        self._send([Meet()] * len(self._workers))
        return Hub(len(self._workers) + 1, self._tell, self._hear)

    def _tell(self, value: Any) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):  # it is gone, which is found when it is heard of next
                send(worker.connection, Tell(value))

    def _hear(self) -> list[Any]:
        for worker in self._workers:
            worker.owes = True
        return [told.value for told in self._collect(Tell)]

    def sum(self, weights: Iterable[float]) -> None:
        """Lets them sum their gradients; this process does so too, calls `look` meanwhile, and `summed` afterwards."""
        self._send([Sum(weight) for weight in weights])
        self._summing = self._new_round(Summed.__name__)

    def look(self) -> None:
        """Sees whether a sum can come to its end.

        Raises:
            WorkerError: one has raised an exception, has ended, is stopped, or has taken too long.
        """
        if self._summing is not None:
            self._turn(self._summing, 0.0)
            self._raise_failure(self._summing)

    def summed(self) -> None:
        """Waits until they have their sums.

        Raises:
            WorkerError: see `look`.
        """
        self._collect(Summed)

    def states(self) -> list[bytes]:
        """The states of their iterators.

        Raises:
            WorkerError: one has raised an exception or has ended.
        """
        self._settle()
        self._send([Save()] * len(self._workers))
        return [saved.state for saved in self._collect(Saved)]

    def load(self, states: Iterable[bytes]) -> None:
        """Puts their iterators into states.

        Raises:
            WorkerError: one has raised an exception or has ended.
        """
        self._settle()
        self._send([Load(state) for state in states])
        self._collect(Saved)

    def last_states(self) -> list[bytes] | None:
        """The states of their iterators; None if they are in the middle of a step, or do not answer in time."""
        if self.problem is not None or any(worker.owes for worker in self._workers):
            return None
        try:
            self._send([Save()] * len(self._workers))
            return [saved.state for saved in self._collect(Saved, _STATE_S)]
        except WorkerError:
            return None

    def close(self) -> None:
        """Ends them; those that are in the middle of a step are killed."""
        if os.getpid() != self._owner:  # a fork of the main process
            return
        workers, self._workers = self._workers, []
        for worker in workers:
            if worker.owes:
                worker.process.kill()
            else:
                with contextlib.suppress(OSError):  # it is gone
                    send(worker.connection, Stop())
        deadline = time.monotonic() + _GRACE_S
        for worker in workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
            worker.end()

    def _send(self, orders: list[Any]) -> None:
        for worker, order in zip(self._workers, orders, strict=True):
            worker.owes = True
            with contextlib.suppress(OSError):  # it is gone, or takes nothing: both are found when answers are read
                send(worker.connection, order)

    def _settle(self) -> None:
        """Waits for answers that nobody has asked for."""
        if self.problem is None and self._is_reading:
            self._fail("a message of a worker was broken off, by Ctrl-C or another exception")
        if self.problem is not None:
            raise WorkerError(f"{self.problem}\nThe workers of this updater have ended; make a new one.")
        if any(worker.owes for worker in self._workers):
            self._collect(None)

    def _collect(self, kind: type[A] | None, timeout: float | None = None) -> list[A]:
        """One answer of each that owes one, in the order of the devices."""
        what = Done.__name__ if kind is None else kind.__name__
        turns, self._summing = self._summing or self._new_round(what), None
        while any(worker.owes for worker in self._workers):
            self._turn(turns, _LOOK_S, timeout)
        self._calls[what] += 1
        if self._calls[what] > 1 and (seconds := time.monotonic() - turns.began) > _LOOK_S:  # they start in the first
            self._deadlines.add(what, seconds)
        self._raise_failure(turns)
        if kind is None:
            return []
        return [answer for worker in self._workers if isinstance(answer := turns.answers.get(worker), kind)]

    def _new_round(self, what: str) -> _Round:
        return _Round(self._deadlines.limit_s(what, self._calls[what]))

    def _turn(self, turns: _Round, wait_s: float, timeout: float | None = None) -> None:
        """Reads the answers that come within a time, and looks after those that are missing."""
        missing = [worker for worker in self._workers if worker.owes]
        ready = wait([end for worker in missing for end in (worker.connection, worker.pidfd)], wait_s)
        now = time.monotonic()
        seconds = now - turns.began
        if not ready and timeout is not None and seconds > timeout:
            self._fail(f"{missing[0].name} has not answered in {timeout:g} s")
        if not ready and missing and now - turns.looked >= _LOOK_S:
            turns.looked = now
            self._look_after(missing)
            if seconds > _END * turns.limit_s:
                self._give_up(missing[0], seconds)
            if seconds > turns.limit_s and not turns.is_named:
                turns.is_named = True
                warnings.warn(
                    f"{missing[0].name} takes longer than {turns.limit_s:g} s. This is not the end yet; see "
                    f"{VARIABLE}.",
                    stacklevel=2,
                )
        for worker in missing:
            if worker.connection in ready or worker.pidfd in ready:
                turns.answers[worker] = self._read(worker)

    def _raise_failure(self, turns: _Round) -> None:
        for worker, answer in turns.answers.items():
            if isinstance(answer, Failed):
                self._raise(worker, answer)

    def _look_after(self, missing: list[WorkerProcess]) -> None:
        """Raises if one of them is stopped, and has been for too long."""
        for worker in missing:
            worker.look()
            if worker.stopped is not None and (seconds := time.monotonic() - worker.stopped) > self._limit_s:
                self._fail(f"{worker.name} has been stopped (SIGSTOP) for {seconds:.0f} s; see {VARIABLE}")

    def _give_up(self, worker: WorkerProcess, seconds: float) -> None:
        worker.process.send_signal(SHOW_STACKS)
        time.sleep(_LOOK_S)
        self._fail(
            f"{worker.name} has not answered for {seconds:.0f} s (see {VARIABLE}). It has printed where it is, unless "
            "it hangs in the system."
        )

    def _read(self, worker: WorkerProcess) -> Any:
        self._is_reading = True  # and still so if something breaks this off
        answer: Any = None
        try:
            if worker.connection.poll():
                answer = receive(worker.connection)
        except (EOFError, ConnectionError):
            answer = None
        except BlockingIOError:
            self._fail(f"{worker.name} has not gone on in the middle of a message for {self._limit_s:g} s")
        except WireError as error:
            self._fail(f"{worker.name} has sent what is no message: {error}")
        self._is_reading = False
        if answer is None:
            self._lose(worker)
        worker.owes = False
        return answer

    def _raise(self, worker: WorkerProcess, failure: Failed) -> None:
        if failure.is_at_end:
            self._fail(
                f"the iterator of {worker.name} has no more minibatches, but the training goes on; make it with "
                "repeat=True, or stop the training earlier"
            )
        self._fail(f"{worker.name} raised {failure.text}\n\nIn the worker:\n{failure.traceback}")

    def _lose(self, worker: WorkerProcess) -> None:
        """Raises what has become of a worker that does not talk any more."""
        try:
            code = worker.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._fail(f"{worker.name} has closed its connection")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self._fail(f"{worker.name} {how}")

    def _fail(self, problem: str) -> Any:
        self.problem = problem
        for worker in self._workers:
            worker.owes = True  # none of them has anything more to say
        self.close()
        raise WorkerError(problem)


def _environment(count: int) -> dict[str, str]:
    """Of the workers: without the launcher's variables, and with their share of the cores, unless that is set."""
    environment = without_launcher(os.environ)
    if not any(environment.get(name) for name in THREAD_VARIABLES):
        environment |= dict.fromkeys(THREAD_VARIABLES, str(max(1, len(os.sched_getaffinity(0)) // count)))
    return environment
