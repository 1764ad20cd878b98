"""Which rank's failure ended the job, and what to say about it. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from distrain_launch import collectives
from distrain_launch.collectives import Operation

RUNNING, LEFT, DESERTED, FORSAKEN, TRAINING = range(1, 6)  # in the black box of a rank, see distrain/black_box.py
STOPPED = 75  # exit code of a job that is to be started again, see distrain/training/stopping.py
_LAST_LINES, _LAST_LINES_WITH_TEXT = 20, 5
_ALIKE_S = 0.5  # ranks that fail for the same reason do so at about the same time

_MEANINGS = {
    "SIGKILL": "usually the system ended it because memory ran out (`dmesg` says so), or the batch system did",
    "SIGSEGV": "a compiled library used memory that is not its own",
    "SIGBUS": "usually a file in memory (/dev/shm) had no room, or a mapped file became shorter",
    "SIGABRT": "a compiled library gave up; what it printed is above",
    "SIGFPE": "a compiled library divided by zero",
    "SIGILL": "a compiled library uses instructions that this processor does not have",
    "SIGTERM": "somebody, or the batch system, asked it to end",
    "SIGXCPU": "its limit of processor time was reached",
    "SIGXFSZ": "its limit of file size was reached",
    "SIGALRM": "a signal was to stop its training, which took too long (DISTRAIN_GRACE)",
    "SIGPIPE": "who read its output is gone",
    "SIGHUP": "its terminal was closed",
    "SIGINT": "somebody interrupted it",
}


@dataclass(slots=True)
class Rank:
    """What the launcher knows of a rank.

    Attributes:
        rank, size: which of how many.
        host, pid: where it runs; pid 0 before it is started.
        code: as `os.waitstatus_to_exitcode` gives it; None while it runs.
        ended: when it ended, in seconds since the epoch.
        iteration: the last one that was complete; -1 if the script does not say.
        state: what it was doing.
        failures: of the job before this attempt, as its training has found; 0 without an end.
        before, trained: seconds of training that it has found in snapshots, and that last at its end; 0 without an end.
        text: its own words about its failure.
        verdict: why it got SIGKILL, as far as its keeper knows; see oom.py.
        operations: the last collectives that it came to, the oldest first.
        lines: the end of what it printed.
        log: where all that it printed is.
        was_ended: the launcher ended it, or its keeper was lost after the job's end had begun.
    """

    rank: int
    size: int
    host: str
    pid: int = 0
    code: int | None = None
    ended: float = 0.0
    iteration: int = -1
    state: int = 0
    failures: int = 0
    before: float = 0.0
    trained: float = 0.0
    text: str = ""
    verdict: str = ""
    operations: list[Operation] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    log: str | None = None
    was_ended: bool = False

    @property
    def failed(self) -> bool:
        """Whether its end was a failure of its own: a code or a signal, or it left while others went on."""
        if self.code is None or self.was_ended or self.has_stopped:
            return False
        return self.code != 0 or self.is_deserter

    @property
    def has_stopped(self) -> bool:
        """Whether it has come to its end, with all others, to be started again."""
        return self.code == STOPPED and self.state in (0, LEFT)

    @property
    def is_deserter(self) -> bool:
        """Whether it ended as if all were well, but the others wait for it."""
        return self.code == 0 and self.state in (RUNNING, TRAINING, DESERTED)

    @property
    def is_follower(self) -> bool:
        """Whether it failed because another rank had left."""
        return self.state == FORSAKEN and self.code != 0

    @property
    def exit_code(self) -> int:
        """The exit code of a job that ends with this rank."""
        return exit_code(self.code or 0) or (1 if self.failed else 0)


def first_failure(ranks: Iterable[Rank]) -> tuple[Rank, list[Rank]] | None:
    """The rank whose failure is the cause, and those that failed alike.

    It is the first one in time, but a rank that failed on finding another one gone comes after that one, and of ranks
    that failed alike the lowest speaks for all.
    """
    ranks = list(ranks)
    failed = sorted((rank for rank in ranks if rank.failed), key=lambda rank: rank.ended)
    if not failed or all(rank.code == 0 for rank in ranks):  # nobody was left waiting
        return None
    causes = [rank for rank in failed if not rank.is_follower and not rank.is_deserter]
    first = (causes or [rank for rank in failed if rank.is_follower] or failed)[0]
    alike = [rank for rank in failed if _sign(rank) == _sign(first) and rank.ended - first.ended < _ALIKE_S]
    lowest, *others = sorted(alike, key=lambda rank: rank.rank)
    return lowest, others


def kind_of(rank: Rank) -> str:
    """What a failure has in common with others of its kind: the code, and the last line without addresses."""
    code, line = _sign(rank)
    return f"{code} {re.sub(r'0x[0-9a-f]+', '0x…', line)}"


def _sign(rank: Rank) -> tuple[int | None, str]:
    return rank.code, (rank.text.strip().splitlines() or [""])[-1]


def describe(rank: Rank, others: Sequence[Rank] = (), everybody: Sequence[Rank] = ()) -> str:
    """The report about a failure: who, where, what, and the last lines.

    Args:
        rank: that has failed.
        others: that failed alike.
        everybody: all ranks, to say who came to which collective, where that may be the reason.
    """
    place = f"rank {rank.rank} of {rank.size} on {rank.host}" + (f" (pid {rank.pid})" if rank.pid else "")
    when = f", iteration {rank.iteration}," if rank.iteration >= 0 else ""
    parts = [f"{place}{when} {_what(rank)}"]
    parts += collectives.describe(everybody, rank.ended, was_killed=(rank.code or 0) < 0)
    lines = rank.lines[-(_LAST_LINES_WITH_TEXT if rank.text else _LAST_LINES) :]
    if lines and not _is_among(rank.text, rank.lines):
        parts += ["The last lines it printed:", *(f"  {line}" for line in lines)]
    if rank.log:
        parts.append(f"All that it printed is in {rank.log}.")
    if others:
        numbers = ", ".join(str(other.rank) for other in others)
        parts.append(f"Rank{'s' * (len(others) > 1)} {numbers} failed alike.")
    return "\n".join(parts) + "\n"


def _what(rank: Rank) -> str:
    if rank.text:
        return rank.text.rstrip()
    if rank.code is not None and rank.code < 0:
        name = signal_name(-rank.code)
        meaning = rank.verdict or _MEANINGS.get(name)
        return f"was ended by {name} (signal {-rank.code})" + (f": {meaning}." if meaning else ".")
    if rank.is_deserter:
        return "ended with exit code 0 while other ranks waited for it."
    return f"ended with exit code {rank.code}."


def _is_among(text: str, lines: Sequence[str]) -> bool:
    last = text.strip().splitlines()[-1:]
    return bool(last) and any(last[0].strip() in line for line in lines)


def exit_code(code: int) -> int:
    """What the shell gives: 128 + n for an end by signal n, which Python writes as -n."""
    return 128 - code if code < 0 else code


def signal_name(number: int) -> str:
    """SIGKILL for 9, and so on; real-time signals have only numbers."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
