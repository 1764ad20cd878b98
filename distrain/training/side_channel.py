"""The trainer's end of the side channel: heartbeats, sums for the log, and the last word of a rank that fails.

Guarantees:

- Nothing here stops a training, or delays it for long: two seconds where somebody reads a log for which sums do not
  come, once until they come again; three seconds for a connection at the start; a second at the end.
- Two collective calls when a training starts, and none later.
- What cannot be sent is dropped and counted. A channel that is lost is spoken of once.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from typing import TYPE_CHECKING

from distrain.clock import clock
from distrain.comm import Communicator
from distrain.reporting.rank_states import FILE_NAME, PHASES, RankState, RankStates, StatesFile

if TYPE_CHECKING:
    from distrain.reporting.channel import Hub, Member, MergingStream, SendingStream
    from distrain.training.trainer import Trainer

WAIT_S = 2.0
"""So long an entry of a log waits for the sums of all ranks."""

_EACH_S = 1.0  # between two heartbeats
_QUIET_ITERATIONS = 5  # so many iterations a rank may be quiet
_QUICK_S = 0.1  # extensions that took less are not announced again
_QUIET_CALLS = 3  # so many times the longest call an extension may take, and at least
_QUIET_CALL_S = 60.0
_END_S = 1.0  # that rank 0 waits at the end for the others to say that they have come there
_LINE = 500


class SideChannel:
    """What one trainer has of it; closed until the training starts.

    Attributes:
        states: of all ranks, on rank 0; None elsewhere.
        hub: on rank 0 of several.
        member: on the other ranks.
        quick: names of extensions that need not be announced by `enter` and `leave`.
    """

    def __init__(self) -> None:
        self.states: RankStates | None = None
        self.hub: Hub | None = None
        self.member: Member | None = None
        self._file: StatesFile | None = None  # only where there is no hub to write it
        self._comm: Communicator | None = None
        self._n_streams = 0
        self.quick: set[str] = set()
        self._longest: dict[str, float] = {}  # seconds, by extension
        self._entered = 0.0
        self._iteration = 0
        self._failure: str | None = None
        self._begin(0)

    def _begin(self, iteration: int) -> None:
        self._last = self._iteration = iteration
        self._seconds = clock.seconds.copy()
        self._sent = time.perf_counter()
        self._due = self._sent + _EACH_S

    def open(self, trainer: Trainer) -> None:
        """Opens the channel; a collective call. Where that fails, a warning says so and the training goes on."""
        comm = self._comm = trainer.comm
        self._begin(trainer.updater.iteration)
        here = (socket.gethostname(), os.getpid())
        path = os.path.join(trainer.out, FILE_NAME)
        if comm.size > 1:
            self._connect(comm, path, here)
        else:
            self.states = RankStates([here], self._iteration)
        if self.states is not None and self.hub is None:
            self._file = StatesFile(self.states, path, at_once=False)

    def _connect(self, comm: Communicator, path: str, here: tuple[str, int]) -> None:
        from distrain.reporting.channel import Hub, Member, address

        place = f"{here[0]}/{address.namespace()}"
        everybody = comm.allgather_obj((*here, place, address.is_off()))
        members = [(host, pid) for host, pid, _, _ in everybody]
        door = announced = problem = None
        if comm.rank == 0:
            self.states = RankStates(members, self._iteration)
            if not any(is_off for *_, is_off in everybody):
                places = [one for *_, one, _ in everybody]
                try:
                    door, announced = address.listen(places, len(set(places)) == 1)
                except Exception as error:
                    problem = error
        announced = comm.bcast_obj(announced)
        try:
            if announced is not None and door is not None and self.states is not None:
                self.hub = Hub(door, announced, self.states, StatesFile(self.states, path, at_once=True))
            elif announced is not None:
                self.member = Member(announced, comm.rank, place)
        except Exception as error:
            problem = error
        if problem is not None:
            warnings.warn(f"rank {comm.rank} has no side channel, and goes on without: {problem}", stacklevel=5)

    # The loop

    def beat(self, iteration: int) -> None:
        """An iteration is complete; says so once a second."""
        self._iteration = iteration
        if time.perf_counter() >= self._due:
            self._tell(clock.last)

    def enter(self, name: str) -> None:
        """An extension is about to be called that is not among the `quick` ones; says so, since it may take long."""
        self._entered = time.perf_counter()
        if self._comm is not None and self._comm.size > 1:  # "_Snapshot", as Chainer's files call it, is for no reader
            self._tell(name.lstrip("_"), max(_QUIET_CALL_S, _QUIET_CALLS * self._longest.get(name, 0.0)))

    def leave(self, name: str) -> None:
        """That extension has come to its end."""
        took = time.perf_counter() - self._entered
        self._longest[name] = max(took, self._longest.get(name, 0.0))
        if took < _QUICK_S:
            self.quick.add(name)

    def _tell(self, phase: str, quiet_s: float = 0.0) -> None:
        """Sends a heartbeat, or takes this rank's own."""
        now, iteration = time.perf_counter(), int(self._iteration)
        self._due = now + _EACH_S
        times: list[float] = []
        if n := iteration - self._last:
            seconds, before = clock.seconds, self._seconds
            times = [(seconds[name] - before[name]) / n for name in PHASES]  # type: ignore[index]
            quiet_s = max(quiet_s, _QUIET_ITERATIONS * (now - self._sent) / n)
            self._seconds, self._last, self._sent = seconds.copy(), iteration, now
        if self.member is not None:
            self.member.beat(iteration, phase, times, quiet_s)
        if self.states is not None:
            self.states.beat(0, iteration, phase, times, quiet_s)
            self._say_and_write()

    def _say_and_write(self) -> None:
        """What rank 0 has to do once a second besides."""
        while self.hub is not None and self.hub.notes:
            warnings.warn(f"the side channel {self.hub.notes.popleft()}", stacklevel=4)
        if self._file is not None and self._file.wait_s() <= 0:
            said = self._file.problem
            self._file.write()
            if self._file.problem and not said:
                warnings.warn(self._file.problem, stacklevel=4)

    # The log

    def new_streams(self, comm: Communicator, wait_s: float) -> tuple[MergingStream | None, SendingStream | None]:
        """A way for the sums of a log; all ranks ask for as many, in the same order.

        Args:
            comm: the ranks whose sums they are.
            wait_s: so long the other ranks wait for an entry that somebody asks for.

        Returns:
            Rank 0 gets the first, others the second; neither, if the channel is not open or not that of these ranks.
        """
        if comm is not self._comm or (self.hub is None and self.member is None):
            return None, None
        from distrain.reporting.channel import MergingStream, SendingStream

        self._n_streams += 1
        if self.hub is not None:
            return MergingStream(self.hub, self._n_streams, comm.size), None
        assert self.member is not None
        return None, SendingStream(self.member, self._n_streams, comm.size, wait_s)

    # The end

    def fail(self, error: BaseException) -> None:
        """The training has failed here; tells rank 0 as well as it can."""
        iteration = int(self._iteration)
        line = f"{type(error).__name__}: {error}".splitlines()[0][:_LINE]
        self._failure = line
        if self.member is not None:
            self.member.fail(iteration, line)
        elif self.states is not None:
            self.states.end(0, iteration, line)
        if self.hub is not None:
            self.hub.is_leaving = True

    def close(self) -> None:
        """Says that the training has ended, and closes the channel. The second call does nothing."""
        if self._comm is not None and self._failure is None:
            self._tell(clock.last)
        if self.member is not None:
            if self._failure is None:
                self.member.done(int(self._iteration))
            self.member.close()
        if self.states is not None and self._comm is not None:
            if self._failure is None:
                self.states.end(0, int(self._iteration))
            if self.hub is not None:
                self.hub.wait_for_ends(0.0 if self._failure else _END_S)
                self.hub.close()
            elif self._file is not None:
                self._file.finish()
        self._comm = None

    def rank_states(self) -> list[RankState]:
        """The states of all ranks on rank 0; nothing elsewhere, and before the training starts."""
        return [] if self.states is None else self.states.all()
