"""What a job comes to: its exit code, and the last words of the launcher. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from distrain.errors import LaunchError
from distrain_launch.report import Rank, describe, exit_code, first_failure, signal_name


@dataclass(frozen=True, slots=True)
class End:
    """How the job ended, apart from its ranks.

    Attributes:
        command: the command line of mpiexec.
        code: how mpiexec ended, as `subprocess` gives it.
        took_the_ranks: mpiexec ended while ranks ran, which nobody had asked it to.
        signal: the first one that was to end the job; None if none came.
        late: ranks that did not end in time after it.
        shutdown_timeout: that time in seconds.
    """

    command: Sequence[str]
    code: int = 0
    took_the_ranks: bool = False
    signal: int | None = None
    late: Sequence[Rank] = ()
    shutdown_timeout: float = 10.0


def conclude(ranks: Sequence[Rank], expected: int, end: End) -> tuple[int, str]:
    """The exit code and the last words, which may be none.

    Args:
        ranks: those that were started.
        expected: how many should have been.
        end: how the job ended otherwise.

    Raises:
        LaunchError: mpiexec did not start them all.
    """
    failure = first_failure(ranks)
    if end.signal is not None:
        return _after_signal(ranks, end, end.signal, failure[0] if failure else None)
    if end.took_the_ranks:
        return exit_code(end.code) or 1, f"distrain: {end.command[0]} {_how(end.code)} and took the ranks with it.\n"
    if failure is not None:
        return failure[0].exit_code, "\n" + describe(*failure, ranks)
    if len(ranks) < expected:
        raise LaunchError(
            f"{end.command[0]} {_how(end.code)} when {len(ranks)} of {expected} ranks had started. What it says is "
            f"above; the command was: {shlex.join(end.command)}"
        )
    return exit_code(end.code), ""


def _after_signal(ranks: Sequence[Rank], end: End, number: int, failed: Rank | None) -> tuple[int, str]:
    name, words = signal_name(number), ""
    if end.late:
        numbers = ", ".join(map(str, sorted(rank.rank for rank in end.late)))
        words = (
            f"distrain: rank{'s' * (len(end.late) > 1)} {numbers} did not end within {end.shutdown_timeout:g} s of "
            f"{name}, so the job was killed.\n"
        )
    if failed is not None and failed.exit_code != 128 + number:  # without words the code says all
        return failed.exit_code, words + ("\n" + describe(failed) if failed.text else "")
    if failed is None and ranks and not any(rank.was_ended for rank in ranks):
        return 0, words  # they have heard it, and ended well
    iteration = max((rank.iteration for rank in ranks), default=-1)
    where = f" at iteration {iteration}" if iteration >= 0 else ""
    return 128 + number, f"{words}distrain: ended by {name}{where}.\n"


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal_name(-code)}"
