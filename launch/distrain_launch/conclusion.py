"""What a job comes to: its exit code, the last words of the launcher, and the kind of its failure. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from distrain.errors import LaunchError
from distrain_launch.report import STOPPED, Rank, describe, exit_code, first_failure, kind_of, signal_name


@dataclass(frozen=True, slots=True)
class End:
    """How the job ended, apart from its ranks.

    Attributes:
        command: the command line of mpiexec.
        code: how mpiexec ended, as `subprocess` gives it.
        took_the_ranks: mpiexec ended while ranks ran, which nobody had asked it to.
        signal: the first one that was to end the job; None if none came.
        late: ranks that did not end in time after it, or after the first one that stopped to be started again.
        limit_s: that time in seconds.
    """

    command: Sequence[str]
    code: int = 0
    took_the_ranks: bool = False
    signal: int | None = None
    late: Sequence[Rank] = ()
    limit_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one run of the job comes to.

    Attributes:
        code: the exit code.
        words: the last words of the launcher, which may be none.
        failure: what kind of failure ended it; None: it was none, or the job was told to end.
        iteration: at which it failed; -1: not known, or before the first was complete.
        failures: of the job before this attempt, as rank 0's training has found; launchers of other attempts have seen
            them.
        before, trained: seconds of training that rank 0 has found in snapshots, and that last at its end; 0 without an
            end.
    """

    code: int
    words: str = ""
    failure: str | None = None
    iteration: int = -1
    failures: int = 0
    before: float = 0.0
    trained: float = 0.0


def conclude(ranks: Sequence[Rank], expected: int, end: End) -> Attempt:
    """What the run comes to.

    Args:
        ranks: those that were started.
        expected: how many should have been.
        end: how the job ended otherwise.

    Raises:
        LaunchError: mpiexec did not start them all.
    """
    attempt = _outcome(ranks, expected, end)
    first = next((rank for rank in ranks if rank.rank == 0), None)
    if first is None:
        return attempt
    return replace(attempt, failures=first.failures, before=first.before, trained=first.trained)


def _outcome(ranks: Sequence[Rank], expected: int, end: End) -> Attempt:
    found = first_failure(ranks)
    iteration = max((rank.iteration for rank in ranks), default=-1)
    if end.signal is not None:
        return Attempt(*_after_signal(ranks, end, end.signal, found[0] if found else None))
    if end.took_the_ranks:
        how = f"{end.command[0]} {_how(end.code)} and took the ranks with it"
        return Attempt(exit_code(end.code) or 1, f"distrain: {how}.\n", how, iteration)
    if found is not None:
        return Attempt(found[0].exit_code, "\n" + describe(*found, ranks), kind_of(found[0]), found[0].iteration)
    if any(rank.has_stopped for rank in ranks):
        return Attempt(STOPPED, _late(end, "the first one that stopped") + _last_words(ranks))
    if len(ranks) < expected:
        raise LaunchError(
            f"{end.command[0]} {_how(end.code)} when {len(ranks)} of {expected} ranks had started. What it says is "
            f"above; the command was: {shlex.join(end.command)}"
        )
    code = exit_code(end.code)
    return Attempt(code, failure=f"{end.command[0]} {_how(end.code)}" if code else None)


def _after_signal(ranks: Sequence[Rank], end: End, number: int, failed: Rank | None) -> tuple[int, str]:
    name = signal_name(number)
    words = _late(end, name)
    if failed is not None and failed.exit_code != 128 + number:  # without words the code says all
        return failed.exit_code, words + ("\n" + describe(failed) if failed.text else "")
    if failed is None and any(rank.has_stopped for rank in ranks):
        return STOPPED, words + _last_words(ranks)
    if failed is None and ranks and not any(rank.was_ended for rank in ranks):
        return 0, words  # they have heard it, and ended well
    iteration = max((rank.iteration for rank in ranks), default=-1)
    where = f" at iteration {iteration}" if iteration >= 0 else ""
    return 128 + number, f"{words}distrain: ended by {name}{where}.\n"


def _late(end: End, what: str) -> str:
    """Who did not end in time after that."""
    if not end.late:
        return ""
    numbers = ", ".join(map(str, sorted(rank.rank for rank in end.late)))
    return (
        f"distrain: rank{'s' * (len(end.late) > 1)} {numbers} did not end within {end.limit_s:g} s of {what}, so the "
        "job was killed.\n"
    )


def _last_words(ranks: Sequence[Rank]) -> str:
    """What the training says of its stop."""
    return "".join([f"distrain: {rank.text.strip()}\n" for rank in ranks if rank.has_stopped and rank.text.strip()][:1])


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal_name(-code)}"
