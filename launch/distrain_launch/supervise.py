"""Runs a job: starts mpiexec, listens to the keepers of the ranks, ends everything when one fails or a signal comes.

    mpiexec ── keeper 0 ── rank 0        a keeper says how its rank ended; the launcher decides what that means
           └── keeper 1 ── rank 1

- A rank that fails ends the job: the others get SIGTERM, and 0.8 s later SIGKILL; those that would take SIGTERM as a
  wish to save their training, SIGKILL at once.
- A signal is passed on to every rank, once. After INT or TERM they have a while to end by themselves; another one of
  these ends them at once.
- Ctrl-Z stops the ranks with the launcher, and `fg` or `bg` lets all go on; no time limit runs meanwhile.
- A rank that has stopped to be started again (code 75) gives the others a while to do the same.
- Nobody outlives the job: keepers see that the launcher is gone, the launcher buries what mpiexec leaves.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distrain.awake import AwakeClock
from distrain.env import rank_info
from distrain.errors import LaunchError
from distrain_launch import collectives, keeper, report
from distrain_launch.conclusion import Attempt, End, conclude
from distrain_launch.job import Job
from distrain_launch.line import Line
from distrain_launch.mortal import die_with
from distrain_launch.mpiexec import Command
from distrain_launch.output import ERR, OUT, Output
from distrain_launch.report import Rank
from distrain_launch.screen import Lines
from distrain_launch.signals import ENDING, Signals

_AFTER_FAILURE_S = 0.8  # from SIGTERM to SIGKILL; after `_FOLLOWER_S` that is still less than two seconds
_ALIKE_S = 0.1  # for others that fail for the same reason
_FOLLOWER_S = 1.0  # after a rank that found another one gone: for the end of that one
_REAP_S = 0.3  # from the death of a keeper to the visible end of a killed mpiexec
_DESERTER_S = 5.0  # after a rank that ended without a failure while others go on
_GIVE_UP_S = 3.0  # after SIGKILL
_MPIEXEC_S = 5.0  # from the end of the ranks to that of mpiexec
_LOOK_S = 1.0  # at the clock, while a time limit runs
_LONGEST_LOOK_S = 2.0  # whatever takes longer is a pause of the launcher


def keeper_command(path: str, program: Sequence[str]) -> list[str]:
    """The command line of a keeper that is to start a program."""
    return [sys.executable, "-I", "-S", keeper.__file__, path, *program]


class Supervisor:
    """One run of a job.

    Args:
        command: gives the command that starts one keeper a rank, from the command line of a keeper.
        program: command line of a rank.
        job: what the ranks get.
        output: where their output goes.
    """

    def __init__(
        self, command: Callable[[Sequence[str]], Command], program: Sequence[str], job: Job, output: Output
    ) -> None:
        self.job = job
        self.output = output
        self.door = job.door()
        self.command = command(keeper_command(self.door.address, program))
        self.selector = selectors.DefaultSelector()
        self.lines: list[Line] = []
        self.ranks: dict[int, Rank] = {}
        self.received: list[int] = []
        self.now = AwakeClock(_LONGEST_LOOK_S)
        self.decide_at: float | None = None  # what has failed first will be known then
        self.kill_at: float | None = None
        self.give_up_at: float | None = None  # on processes that even SIGKILL does not end
        self.is_ending = False
        self.mpiexec_failed = False
        self.spared = set(keeper.children(os.getpid()))
        self.late: list[Rank] = []  # had to be killed
        self.limit_s = job.shutdown_timeout  # that they had
        self.words = Lines()  # of mpiexec
        self.mpiexec: subprocess.Popen[bytes] | None = None

    def run(self) -> Attempt:
        """Runs the job to its end, and says what went wrong.

        Raises:
            LaunchError: the ranks cannot be started.
        """
        with Signals(more=[signal.SIGCHLD, signal.SIGTSTP]) as signals:
            try:
                self._start()
                self.selector.register(signals.pipe, selectors.EVENT_READ, lambda: self._on_alarm(signals.read()))
                while not self._is_over():
                    for key, _ in self.selector.select(self._wait()):
                        key.data()
                    self._act()
            finally:
                self._clean_up()
                signals.ends = bool(self.received)
        return self._conclude()

    def _start(self) -> None:
        """Starts mpiexec."""
        arguments = self.command.arguments
        try:
            self.mpiexec = subprocess.Popen(
                arguments,
                env={**os.environ, **self.command.variables, **self.door.variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                process_group=0,  # Ctrl-C is for the launcher, which passes it on
                preexec_fn=die_with(os.getpid()),
            )
        except OSError as error:
            raise LaunchError(f"{arguments[0]} cannot be run: {error}.") from error
        assert self.mpiexec.stdout is not None
        pipe = self.mpiexec.stdout.fileno()
        self.selector.register(pipe, selectors.EVENT_READ, lambda: self._on_words(pipe))
        self.selector.register(self.door, selectors.EVENT_READ, self._on_keeper)

    # What comes in

    def _on_keeper(self) -> None:
        try:
            line = Line(self.door.accept())
        except OSError:  # it is gone already
            return
        self.lines.append(line)
        self.selector.register(line.socket, selectors.EVENT_READ, lambda: self._on_message(line))
        if len(self.lines) == len(self.job.places):
            self.door.forget()

    def _on_message(self, line: Line) -> None:
        try:
            data = line.socket.recv(keeper.CHUNK)
        except BlockingIOError:  # a part of a message
            return
        except ConnectionError:
            data = b""
        for kind, content in line.inbox.take(data):
            if kind == keeper.HELLO:
                self._on_hello(line, json.loads(content))
            elif line.rank is not None:
                self._on_word(line.rank, kind, content)
        if not data:
            self.selector.unregister(line.socket)
            line.socket.close()
            self.lines.remove(line)
            if line.rank is not None and line.rank.code is None:
                self._on_lost(line.rank, line.pid)

    def _on_hello(self, line: Line, hello: Mapping[str, Any]) -> None:
        info = rank_info(hello["environ"])
        if info.size != len(self.job.places):
            raise LaunchError(
                f"{self.command.arguments[0]} was to start {len(self.job.places)} ranks, but a process of it takes "
                f"itself for rank {info.rank} of {info.size}. Use the mpiexec of the MPI that mpi4py loads (--mpiexec)."
            )
        rank = Rank(info.rank, info.size, hello["host"])
        line.rank, line.pid = rank, hello["pid"]
        self.ranks[rank.rank] = rank
        if self.is_ending or self.received:
            rank.code, rank.was_ended = -signal.SIGTERM, True
            line.send(keeper.BYE)
            return
        place = self.job.place(info, hello)
        variables = {**self.job.variables, **place.variables(os.environ)}
        if info.rank == 0 and self.output.terminal:  # it sees a pipe, but what it prints ends on this terminal
            variables["DISTRAIN_TERMINAL"] = "{}x{}".format(*self.output.terminal)
        if self.job.log_dir is not None:
            rank.log = str(self.job.log_dir / f"rank-{rank.rank}.log")
        line.send(
            keeper.START,
            {
                "variables": variables,
                "cores": place.cores,
                "log": rank.log and os.path.abspath(rank.log),
                "one_stream": self.output.one_stream,
            },
        )

    def _on_word(self, rank: Rank, kind: int, content: bytes) -> None:
        if kind in (keeper.OUT, keeper.ERR):
            self.output.take(rank, OUT if kind == keeper.OUT or self.output.one_stream else ERR, content)
        elif kind == keeper.NOTE:
            self.output.say(f"distrain: rank {rank.rank} on {rank.host}: {content.decode()}")
        elif kind == keeper.STARTED:
            rank.pid = json.loads(content)["pid"]
        elif kind == keeper.END:
            end = json.loads(content)
            rank.code, rank.ended, rank.iteration = end["code"], end["time"], end["iteration"]
            rank.state, rank.text, rank.verdict = end["state"], end["report"], end["verdict"]
            rank.failures, rank.before, rank.trained = end["failures"], end["before"], end["trained"]
            rank.operations = collectives.read(bytes.fromhex(end["entries"]))
            self._on_end(rank)

    def _on_end(self, rank: Rank) -> None:
        if rank.has_stopped and self.kill_at is None and not self.is_ending:
            self._set_limit(self.job.grace)
        if self.is_ending or not rank.failed:
            return
        if self.received and rank.exit_code != 128 + self.received[0]:  # others may still be tidying up
            return
        if rank.is_deserter and rank.state in (report.RUNNING, report.TRAINING):
            self._decide(_DESERTER_S)
        else:
            self._decide(_FOLLOWER_S if rank.is_follower or rank.is_deserter else _ALIKE_S)

    def _on_lost(self, rank: Rank, keeper_pid: int) -> None:
        """The keeper ended without a word, so it was killed, and its rank with it."""
        rank.code, rank.ended, rank.was_ended = -signal.SIGKILL, time.time(), self.is_ending
        rank.text = (
            f"was lost: the process that looks after it (pid {keeper_pid}) {self.door.loss}, and the rank with it."
        )
        if not self.is_ending:
            if self.decide_at is None:  # nothing else has failed before
                self.mpiexec_failed = self._mpiexec_was_killed()
            self._decide(_FOLLOWER_S)

    def _mpiexec_was_killed(self) -> bool:
        """Whether a signal has ended mpiexec, which then takes its children along.

        They may be gone a moment earlier: a process that ends closes its files, and ends its children, before its
        parent can see the end.
        """
        assert self.mpiexec is not None
        try:
            return self.mpiexec.wait(_REAP_S) < 0
        except subprocess.TimeoutExpired:
            return False

    def _on_words(self, pipe: int) -> None:
        data = os.read(pipe, keeper.CHUNK)
        if data:
            self._show_words(self.words.take(data))
        else:
            self.selector.unregister(pipe)

    def _show_words(self, words: bytes) -> None:
        is_ending = self.is_ending or self.received or any([rank.has_stopped for rank in self.ranks.values()])
        if not is_ending and self.decide_at is None:  # after a failure it talks of that
            self.output.say(words.decode(errors="replace"))

    def _on_alarm(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGTSTP:
                self._pause()
            elif number != signal.SIGCHLD:
                self._on_signal(number)

    def _pause(self) -> None:
        """Stops the ranks, and this process until somebody lets it go on."""
        self._pass_on(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._pass_on(signal.SIGCONT)

    def _on_signal(self, number: int) -> None:
        if number in ENDING:
            is_second = any(other in ENDING for other in self.received)
            self.received.append(number)
            if is_second:
                self._kill()
                return
            self._set_limit(self.job.grace if number == signal.SIGTERM else self.job.shutdown_timeout)
            if not self.lines and self.mpiexec is not None:
                self.mpiexec.terminate()
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        for line in self.lines:
            line.send(keeper.SIGNAL, str(int(number)).encode())

    # What is done about it

    def _wait(self) -> float | None:
        """Seconds until something is to be done although nothing comes in."""
        times = [at for at in (self.decide_at, self.kill_at, self.give_up_at) if at is not None]
        return min(_LOOK_S, max(0.0, min(times) - self.now())) if times else None

    def _act(self) -> None:
        """Does what it is time for."""
        now = self.now()
        if self.decide_at is not None and now >= self.decide_at:
            self.decide_at = None
            if any(rank.code is None or rank.code for rank in self.ranks.values()):
                self._end()
        if self.kill_at is not None and now >= self.kill_at:
            if not self.is_ending:
                self.late = [rank for rank in self.ranks.values() if rank.code is None]
            self._kill()
        if self.output.is_broken and not self.is_ending:  # as the script alone would end
            self.received.append(signal.SIGPIPE)
            self._end()

    def _decide(self, seconds: float) -> None:
        at = self.now() + seconds
        self.decide_at = at if self.decide_at is None else min(at, self.decide_at)

    def _set_limit(self, seconds: float) -> None:
        self.limit_s, self.kill_at = seconds, self.now() + seconds

    def _end(self) -> None:
        """Ends the ranks that are left: SIGTERM, and SIGKILL if that is not enough."""
        self._mark_ended()
        for line in self.lines:
            line.send(keeper.ABANDON)
        self.kill_at = self.now() + _AFTER_FAILURE_S

    def _kill(self) -> None:
        """Ends the ranks that are left at once, and all they have started."""
        self._mark_ended()
        for line in self.lines:
            line.send(keeper.KILL)
        self.decide_at = self.kill_at = None
        self.give_up_at = self.now() + _GIVE_UP_S

    def _mark_ended(self) -> None:
        self.is_ending = True
        for rank in self.ranks.values():
            rank.was_ended |= rank.code is None

    def _unfinished(self) -> list[Rank]:
        return [rank for rank in self.ranks.values() if rank.code is None]

    def _is_over(self) -> bool:
        """Whether all ranks have ended and no more will come."""
        assert self.mpiexec is not None
        gone = self.mpiexec.poll() is not None
        if self._unfinished():
            if gone and not self.is_ending and self.decide_at is None:
                self.mpiexec_failed = True
                self._decide(_ALIKE_S)
            return self.give_up_at is not None and self.now() >= self.give_up_at
        if len(self.ranks) == len(self.job.places):
            return True
        return self.decide_at is None and (gone or self.is_ending or bool(self.received))

    # The end

    def _clean_up(self) -> None:
        """Lets the keepers go, waits for mpiexec, and ends what is left.

        They are kept until now, because mpiexec kills all the others when one ends as it likes not.
        """
        for line in self.lines:
            line.send(keeper.BYE)
        self.door.close()
        if self.mpiexec is not None:
            try:
                self.mpiexec.wait(_MPIEXEC_S if self.give_up_at is None else _AFTER_FAILURE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.mpiexec.pid, signal.SIGKILL)
                self.mpiexec.wait()
            if self.mpiexec.stdout is not None:
                os.set_blocking(self.mpiexec.stdout.fileno(), False)
                self._show_words(self.words.take(self.mpiexec.stdout.read() or b"") + self.words.rest())
                self.mpiexec.stdout.close()
        keeper.end_family(os.getpid(), spared=self.spared)
        for line in self.lines:
            line.socket.close()
        self.selector.close()

    def _conclude(self) -> Attempt:
        """Says what went wrong, last of all."""
        assert self.mpiexec is not None
        for rank in self.ranks.values():
            rank.lines = self.output.last_lines(rank.rank)
        self.output.close()
        if self.output.is_broken:  # as the script alone would end
            return Attempt(128 + signal.SIGPIPE)
        end = End(
            command=self.command.arguments,
            code=self.mpiexec.returncode,
            took_the_ranks=self.mpiexec_failed,
            signal=self.received[0] if self.received else None,
            late=self.late,
            limit_s=self.limit_s,
        )
        attempt = conclude(list(self.ranks.values()), len(self.job.places), end)
        self.output.say(attempt.words)
        return attempt
