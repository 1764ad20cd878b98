"""The watch: a thread on each rank that notices when ranks wait for what will never come.

Guarantees, where MPI lets several threads call it (the others compare before every collective):

- Ranks that wait for each other in different collectives end the job within a few seconds, with an error that says
  where each of them is. A rank that has come to the end of its script while others wait for it is told that it may go.
- A rank that others wait for longer than the limit is named, with the line that it is working on. If its watch does not
  answer (the process is stopped, or hangs outside of Python), the job ends; else it ends after ten times as long,
  because a rank may have good reasons to take its time. So does a collective that does not end once all have come.
- The limit is `DISTRAIN_COLLECTIVE_TIMEOUT` seconds (30), or five times the 99th percentile of what the rank has waited
  for in collectives of this kind (`deadlines.py`), whichever is longer.
- Time in which this rank was stopped itself does not count, so a job that is suspended as a whole goes on as it was.

Each rank that waits for more than a second says so to rank 0, which decides.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from distrain.awake import AwakeClock
from distrain.comm import record
from distrain.comm.deadlines import Deadlines
from distrain.comm.record import Slot
from distrain.comm.waits import Op, Waiting, find_late, is_stuck
from distrain.errors import ArgumentError

VARIABLE = "DISTRAIN_COLLECTIVE_TIMEOUT"

_TICK_S = 0.25
_PATIENCE_S = 1.0  # a shorter wait is not worth a word
_ANSWER_S = 5.0
_END = 10  # times the limit, after which the job ends
_LONGEST_TICK_S = 2.0  # a busy machine may be late; whatever takes longer is a pause of this process
_STATES, _HEARD, _QUESTION, _ANSWER, _GO = 1, 2, 3, 4, 5  # tags

Wait = tuple[Op, float, float]
"""What a rank waits in, for how many seconds, and for how many it may."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PYTHON = os.path.dirname(os.path.abspath(threading.__file__))


def timeout_s(text: str | None) -> float:
    """The time limit in a variable.

    Raises:
        ArgumentError: it is not a positive number.
    """
    try:
        seconds = float(text) if text is not None else 30.0
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ArgumentError(f"{VARIABLE} must be a number of seconds, not {text!r}")
    return seconds


@dataclass
class _Inquiry:
    """Questions to ranks that others wait for, and to these.

    Attributes:
        asked: when, on the watch's clock.
        late: whom others wait for.
        answers: where they are: the stack, and what they have come to in each lane.
    """

    asked: float
    late: frozenset[int]
    answers: dict[int, tuple[str, dict[tuple[Any, ...], int]]]


class Watch:
    """The thread of one rank.

    Args:
        mpi_comm: of all ranks of the job; nobody else uses it.
        hosts: of the ranks.

    Attributes:
        may_go: set when this rank, at the end of its script, would wait in vain for the others.
    """

    def __init__(self, mpi_comm: Any, hosts: Sequence[str]) -> None:
        self.may_go = threading.Event()
        self._comm, self._hosts = mpi_comm, hosts
        self._fail: Callable[[str], Any] = lambda text: None
        self._rank: int = mpi_comm.Get_rank()
        self._size: int = mpi_comm.Get_size()
        self._timeout_s = timeout_s(os.environ.get(VARIABLE))
        self._end = threading.Event()
        self._now = AwakeClock(_LONGEST_TICK_S)
        self._known: dict[int, Waiting] = {}  # on rank 0: who waits
        self._deadlines = Deadlines(self._timeout_s)
        self._told: list[Wait] = []
        self._sending: Any = None  # the request of the last message to rank 0
        self._heard = 0.0  # when rank 0 last answered
        self._inquiry: _Inquiry | None = None
        self._warned: set[Any] = set()
        self._has_released = False
        self._thread = threading.Thread(target=self._run, name="distrain watch", daemon=True)

    def start(self, fail: Callable[[str], Any]) -> None:
        """Starts the thread.

        Args:
            fail: ends the job, with a reason.
        """
        self._fail = fail
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join(10)
        if self._rank == 0 and not self._thread.is_alive():
            self._hear()  # MPI does not like to end with messages on their way

    def _run(self) -> None:
        while not self._end.wait(_TICK_S):
            self._tell()
            if self._rank == 0:
                self._hear()
                self._judge()
            else:
                self._listen()

    # Every rank

    def _tell(self) -> None:
        """Says to rank 0 what this rank waits for, and that it does not any more."""
        now = self._now()
        waits: list[Wait] = []
        for slot in list(record.slots):
            op = slot.op
            if op is not slot.seen:
                if slot.seen is not None and now - slot.since > _PATIENCE_S:
                    self._deadlines.add(slot.describe(slot.seen).kind, now - slot.since)
                slot.seen, slot.since = op, now
            elif op is not None and now - slot.since > _PATIENCE_S:
                waits.append((described := slot.describe(op), now - slot.since, self._limit_s(slot, described)))
        if not (waits or self._told):
            return
        place = _place() if waits else ""
        if self._rank == 0:
            self._note(0, waits, place)
        elif self._sending is not None and not self._sending.Test():
            return  # rank 0 does not take it; a call that waits for it would stop this watch as well
        else:
            self._sending = self._comm.isend((waits, place), 0, _STATES)
        self._told = waits

    def _limit_s(self, slot: Slot, op: Op) -> float:
        return self._deadlines.limit_s(op.kind, slot.calls[op.kind.encode()])

    def _listen(self) -> None:
        """Answers rank 0, and notices if rank 0 does not."""
        if self._comm.Iprobe(0, _GO):
            self._comm.recv(None, 0, _GO)
            self.may_go.set()
        if self._comm.Iprobe(0, _QUESTION):
            self._comm.recv(None, 0, _QUESTION)
            self._comm.send((_stack(), record.progress()), 0, _ANSWER)
        if not self._told:
            self._heard = self._now()
        while self._comm.Iprobe(0, _HEARD):
            self._comm.recv(None, 0, _HEARD)
            self._heard = self._now()
        if self._now() - self._heard > max(self._timeout_s, _ANSWER_S):
            time.sleep(_TICK_S * self._rank)  # one of them is enough
            what = " and ".join(op.text for op, _, _ in self._told)
            self._fail(
                f"waits for {what}{_place()}, and rank 0 ({self._hosts[0]}) does not answer: it is stopped, or hangs "
                f"outside of Python. The job ends. This rank is at\n{_stack()}\n"
            )

    # Rank 0

    def _hear(self) -> None:
        from mpi4py import MPI

        status = MPI.Status()
        while self._comm.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
            rank, tag = status.Get_source(), status.Get_tag()
            message = self._comm.recv(None, rank, tag)
            if tag == _STATES:
                self._note(rank, *message)
                self._comm.send(None, rank, _HEARD)
            elif self._inquiry is not None:
                self._inquiry.answers[rank] = message

    def _note(self, rank: int, waits: list[Wait], place: str) -> None:
        if not waits:
            self._known.pop(rank, None)
            return
        now, known = self._now(), self._known.get(rank)
        ops = [op for op, _, _ in waits]
        first = known.first if known is not None and known.ops == ops else now
        _, seconds, limit_s = max(waits, key=lambda wait: wait[1] - wait[2])
        self._known[rank] = Waiting(ops, first, now, seconds, limit_s, place)

    def _judge(self) -> None:
        if is_stuck(self._known, self._size):
            self._release(_lines("the ranks wait for each other, and would for ever:", self._everybody()))
            return
        if self._inquiry is not None:
            self._conclude(self._inquiry)
            return
        op, late = find_late(self._known, self._now(), _ANSWER_S)
        if op is None:
            self._end_what_hangs()
        elif op.key not in self._warned or self._is_over(op):
            self._inquiry = _Inquiry(self._now(), late, {})
            for rank in (late | self._known.keys()) - {0}:
                self._comm.send(None, rank, _QUESTION)
            self._inquiry.answers[0] = _stack(), record.progress()

    def _end_what_hangs(self) -> None:
        """Ends the job if a collective takes for ever although all have come to it."""
        for waiting in self._known.values():
            if waiting.seconds > _END * waiting.limit_s:
                head = f"all ranks have come to it, but it has not ended after {waiting.seconds:.0f} s:"
                self._fail(_lines(head, [*self._everybody(), "The job ends."]))

    def _release(self, text: str) -> None:
        """Lets ranks go for which others wait at their end; if there is none, nobody can help."""
        at_end = [rank for rank, waiting in self._known.items() if any(op.is_end for op in waiting.ops)]
        if not at_end:
            self._fail(text)
        elif not self._has_released:
            self._has_released = True
            _say(self._rank, self._size, text)
            for rank in at_end:
                if rank == 0:
                    self.may_go.set()
                else:
                    self._comm.send(None, rank, _GO)

    def _is_over(self, op: Op) -> bool:
        return any(op in w.ops and w.seconds > _END * w.limit_s for w in self._known.values())

    def _conclude(self, inquiry: _Inquiry) -> None:
        op, late = find_late(self._known, self._now(), _ANSWER_S)
        if op is None or not late & inquiry.late:  # they have come meanwhile
            self._inquiry = None
            return
        silent = late - inquiry.answers.keys()
        if silent and self._now() - inquiry.asked < _ANSWER_S:
            return
        self._inquiry = None
        self._warned.add(op.key)
        late = frozenset(rank for rank in late if not self._has_been(rank, op, inquiry))
        is_over = bool(silent) or self._is_over(op)
        if not late and not is_over:
            return
        limit_s = min((w.limit_s for w in self._known.values() if op in w.ops), default=self._timeout_s)
        hint = "The job ends." if is_over else f"This is not the end yet; see {VARIABLE}."
        lines = [*self._everybody(inquiry if is_over else None), *self._about(late, inquiry), hint]
        text = _lines(f"ranks wait longer than {limit_s:g} s:", lines)
        if is_over:
            self._fail(text)
        else:
            _say(self._rank, self._size, text)

    def _has_been(self, rank: int, op: Op, inquiry: _Inquiry) -> bool:
        """Whether a rank says that it has come to the operation, and may have left it."""
        return rank in inquiry.answers and op.lane != () and inquiry.answers[rank][1].get(op.lane, 0) >= op.count

    def _about(self, late: frozenset[int], inquiry: _Inquiry) -> Iterator[str]:
        for rank in sorted(late):
            who = f"  rank {rank} ({self._hosts[rank]})"
            if rank in inquiry.answers:
                yield f"{who} has not come, and is at\n{inquiry.answers[rank][0]}"
            else:
                yield f"{who} does not answer: it is stopped, or hangs outside of Python"

    def _everybody(self, inquiry: _Inquiry | None = None) -> list[str]:
        lines = []
        for rank, waiting in sorted(self._known.items()):
            what = " and ".join(op.text for op in waiting.ops)
            lines.append(f"  rank {rank} ({self._hosts[rank]}), for {waiting.seconds:.0f} s: {what}{waiting.place}")
            if inquiry is not None and rank in inquiry.answers:
                lines.append(inquiry.answers[rank][0])
        return lines


def _lines(head: str, lines: Sequence[str]) -> str:
    return "\n".join([head, *lines, ""])


def _say(rank: int, size: int, text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"\nrank {rank} of {size} on {socket.gethostname()} (pid {os.getpid()}): {text}")
    sys.stderr.flush()


def _frame() -> Any:
    return sys._current_frames().get(threading.main_thread().ident or 0)


def _place() -> str:
    """The line of the script that waits: the innermost one outside of distrain and Python's own modules."""
    frame = _frame()
    while frame is not None and _is_inner(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else f' (File "{frame.f_code.co_filename}", line {frame.f_lineno})'


def _is_inner(path: str) -> bool:
    return path.startswith(_PACKAGE) or (path.startswith(_PYTHON) and "site-packages" not in path)


def _stack() -> str:
    frame = _frame()
    lines: list[str] = []
    while frame is not None and len(lines) < 12:
        lines.append(f'    File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}')
        frame = frame.f_back
    return "\n".join(lines)
