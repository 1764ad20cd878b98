"""Starting a job again after a failure."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from distrain.errors import ArgumentError, LaunchError
from distrain_launch.conclusion import Attempt
from distrain_launch.report import STOPPED, signal_name
from distrain_launch.signals import Signals

JOB, ATTEMPT = "DISTRAIN_JOB", "DISTRAIN_RESTART"  # see distrain/restart.py
_LONGEST_S = 60.0
_NOT_STARTED = 2  # exit code, see cli.py
_STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # see distrain/training/stopping.py


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often a job is started again.

    Attributes:
        limit: after at most so many failures, those of earlier launchers of the job included where its training has
            counted them (distrain/training/attempts.py). A stop by a signal is none.
        delay_s: before the first time. It doubles from one to the next, up to a minute or to itself if that is longer,
            and is short again after a run that came further than the one before.
    """

    limit: int = 0
    delay_s: float = 1.0


def variables(environ: Mapping[str, str] = os.environ) -> Iterator[dict[str, str]]:
    """What the ranks find in their environment, attempt after attempt.

    A job that a batch system has started again keeps its name, and goes on counting.

    Raises:
        ArgumentError: the environment has no number of attempts where there should be one.
    """
    job = environ.get(JOB) or uuid.uuid4().hex
    before = environ.get(ATTEMPT) or "0"
    if not re.fullmatch(r"[0-9]{1,9}", before):
        raise ArgumentError(f"{ATTEMPT}={before!r}: expected how often the job has been started before, 0 or more.")
    for number in itertools.count(int(before)):
        yield {JOB: job, ATTEMPT: str(number)}


def run(start: Callable[[dict[str, str], bool], Attempt], restarts: Restarts, say: Callable[[str], None]) -> int:
    """Runs a job, again after a failure; returns its last exit code.

    Over is a job that ends well, that was told to end, a rank of which somebody has interrupted (SIGINT), that has
    stopped to be started again by others (code 75), or that fails twice in the same way without having come further,
    since it would do so again. A signal for such a stop that ends ranks in which no training runs counts like one that
    was heard. What has once been started and cannot be started again, because a host does not answer, is tried later.

    Args:
        start: runs the job once with more variables; the second argument says whether it is a restart.
        restarts: how often.
        say: shows a line.

    Raises:
        LaunchError: the job cannot be started for the first time.
    """
    delay, before, began, trained_before, failures = restarts.delay_s, None, time.monotonic(), 0.0, 0
    for number, more in enumerate(variables()):
        came_further = False
        try:
            attempt = start(more, number > 0)
        except LaunchError as error:
            if number == 0:
                raise
            say(f"distrain: {error}\n")
            attempt = Attempt(_NOT_STARTED, failure="")
        else:
            if before is None:
                trained_before = attempt.before
            if attempt.failure is None and number > 0 and attempt.trained > 0:
                say(effective(number, attempt.trained - trained_before, time.monotonic() - began))
            unheard = _unheard(attempt)
            if unheard is not None:
                say(f"distrain: {signal_name(unheard)} came when no training ran: start it again to continue.\n")
                return STOPPED
            if attempt.failure is None:
                return attempt.code
            if attempt.code == 128 + signal.SIGINT:
                say("distrain: not started again: somebody has interrupted a rank (SIGINT).\n")
                return attempt.code
            if before is not None and is_loop(before, attempt):
                where = _where(attempt)
                say(f"distrain: not started again: it has failed twice in the same way{where}.\n{_first(before)}")
                return attempt.code
            came_further = before is None or attempt.iteration > before.iteration
            before = attempt
        failures = max(failures, attempt.failures) + 1
        if failures > restarts.limit:
            say(f"distrain: not started again: that was failure {failures}, and --max-restarts is {restarts.limit}.\n")
            return attempt.code
        if number > 0:
            delay = restarts.delay_s if came_further else max(restarts.delay_s, min(2 * delay, _LONGEST_S))
        ended_by = _wait(delay, say, f"distrain: restart {failures} of at most {restarts.limit} in {delay:g} s.\n")
        if ended_by is not None:
            return told_to_end(ended_by, say).code
    raise AssertionError("the attempts have no end")


def effective(restarts: int, trained_s: float, whole_s: float) -> str:
    """How much of the time of a job was training that lasts, and not repeated, or spent on starting and saving again.

    Args:
        restarts: how many there were.
        trained_s: seconds of training that are in the last snapshot, or led to the end.
        whole_s: seconds from the first start to the end.
    """
    times = f"{trained_s:.1f} s of {whole_s:.1f} s ({100 * trained_s / whole_s:.0f} %)"
    return (
        f"distrain: effective time: {times} were training that lasts, with {restarts} restart{'s' * (restarts > 1)}.\n"
    )


def _unheard(attempt: Attempt) -> int | None:
    """The signal for a stop that has ended ranks in which no training ran that could save itself; None if none has."""
    if attempt.failure is None:
        return signal.SIGTERM if attempt.code == 128 + signal.SIGTERM else None
    return next((number for number in _STOPPING if attempt.failure.startswith(f"{-number} ")), None)


def told_to_end(number: int, say: Callable[[str], None]) -> Attempt:
    """The end of a job that has got a signal while no ranks ran."""
    say(f"distrain: ended by {signal_name(number)} before the restart.\n")
    return Attempt(STOPPED if number in _STOPPING else 128 + number)


def is_loop(before: Attempt, now: Attempt) -> bool:
    """Whether a run has failed as the one before, and came no further.

    A signal that ended a rank can come by chance; there it must have been the same iteration. SIGKILL is never enough:
    it comes from outside, and finds a job most often where that spends most of its time.
    """
    if before.failure is None or before.failure != now.failure:
        return False
    if now.failure.startswith(f"{-signal.SIGKILL} "):
        return False
    return now.iteration == before.iteration or (now.iteration < before.iteration and not now.failure.startswith("-"))


def _where(attempt: Attempt) -> str:
    return f", at iteration {attempt.iteration}" if attempt.iteration >= 0 else ", before the first iteration"


def _first(attempt: Attempt) -> str:
    return f"The first time it was:\n{attempt.words.strip()}\n" if attempt.words.strip() else ""


def _wait(seconds: float, say: Callable[[str], None], words: str) -> int | None:
    """Says what comes, and waits; returns the signal that ends the job meanwhile."""
    with Signals() as signals:
        say(words)
        number = signals.wait(seconds)
        signals.ends = number is not None
    return number
