"""Starts two ranks through `distrain run` itself, and looks at what they say of each other."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distrain.errors import LaunchError
from distrain_launch.finding import Finding, ok, problem, warning
from distrain_launch.hardware import Hardware
from distrain_launch.mortal import die_with

_RANKS = 2
_SCRIPT = "distrain.checkup"
_SLOW = 50e6  # bytes/s between ranks of one machine; a network of 1 Gbit/s has twice as much
_CLOCKS_S = 0.5
_LAUNCHER_S = 15.0  # for the launcher to end what it has started
_STAGES = ("world", "allreduce", "clock", "side channel", "feeders", "end")


def findings(mpiexec: str | None, limit_s: float) -> Iterator[Finding]:
    """What two ranks find.

    Args:
        mpiexec: the one that the user names; None: the one that `distrain run` takes.
        limit_s: seconds they may take.
    """
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="distrain-") as folder:
            record = Path(folder) / "record"
            failure = _run(_command(mpiexec, record), limit_s)
            told = _told(record)
    except (OSError, LaunchError) as error:
        yield problem("ranks", f"could not be started: {error}", "Mend what is named above, and try again.")
        return
    yield from read(told)
    yield _end_of(failure, told, time.monotonic() - start)


def _command(mpiexec: str | None, record: Path) -> list[str]:
    """`distrain run` of the script."""
    found = importlib.util.find_spec(_SCRIPT)
    if found is None or found.origin is None:
        raise LaunchError(f"{_SCRIPT} is not there; distrain is not installed completely.")
    options = ["-n", str(_RANKS), "--quiet"]
    if len(Hardware.here().gpus) == 1:  # the two share it
        options.append("--all-gpus")
    if mpiexec is not None:
        options += ["--mpiexec", mpiexec]
    script = [found.origin, str(record), repr(time.time())]
    return [sys.executable, "-m", "distrain_launch", "run", *options, *script]


def _run(command: list[str], limit_s: float) -> str:
    """Runs the launcher; returns what went wrong, in its words."""
    # Without PYTHONSAFEPATH the script's folder, which is full of names, would come before all other packages.
    launcher = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=die_with(os.getpid()),
    )
    try:
        words = launcher.communicate(timeout=limit_s)[1]
    except subprocess.TimeoutExpired:
        return f"they were not over after {limit_s:g} s\n{_end(launcher)}"
    except BaseException:
        _end(launcher)
        raise
    return "" if launcher.returncode == 0 else f"the exit code is {launcher.returncode}\n{words}"


def _end(launcher: subprocess.Popen[str]) -> str:
    """Ends the launcher, which ends its ranks; returns its words."""
    launcher.send_signal(signal.SIGTERM)
    try:
        return launcher.communicate(timeout=_LAUNCHER_S)[1]
    except subprocess.TimeoutExpired:
        launcher.kill()
        return launcher.communicate()[1]


def _told(record: Path) -> dict[str, Any]:
    """What the ranks have written, by stage."""
    text = record.read_text() if record.exists() else ""
    return dict(json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines())  # the last may be cut off


def _end_of(failure: str, told: Mapping[str, Any], seconds: float) -> Finding:
    """How the ranks ended."""
    if not failure:
        return ok("ranks", f"two ranks came to their end, after {seconds:.1f} s in all")
    reached = [stage for stage in _STAGES if stage in told]
    came = f"after {reached[-1]!r}" if reached else "before they knew of each other"
    remedy = "Mend what is named above, and what the launcher says; if that does not help, report this."
    return problem("ranks", f"two ranks did not come to their end, {came}: {failure}", remedy)


def read(told: Mapping[str, Any]) -> Iterator[Finding]:
    """What the ranks have told, as findings. Pure.

    Args:
        told: by stage, see distrain/checkup.py.
    """
    if "world" in told:
        yield _world(told["world"])
    if "allreduce" in told:
        yield from _allreduce(told["allreduce"])
    if "clock" in told:
        yield _clock(told["clock"])
    if "side channel" in told:
        yield _side_channel(told["side channel"])
    if "feeders" in told:
        yield _feeders(told["feeders"])


def _world(told: Mapping[str, Any]) -> Finding:
    ranks = [
        f"rank {number} on {rank['host']} (pid {rank['pid']}), {rank['device']}, {len(rank['cores'])} processors"
        f"{_on_nodes(rank['nodes'])}, "
        f"{rank['threads']} BLAS thread{'s' * (rank['threads'] != 1)}"
        for number, rank in enumerate(told["ranks"])
    ]
    found = "\n".join([f"{told['size']} ranks, started by {told['launcher']}", *ranks])
    if not told["has_watch"]:
        remedy = "This MPI has no THREAD_MULTIPLE: ranks that wait for each other are not noticed. Take another MPI."
        return warning("world", found, remedy)
    return ok("world", found)


def _on_nodes(nodes: Sequence[int]) -> str:
    return f" of NUMA node{'s' * (len(nodes) > 1)} {', '.join(map(str, nodes))}" if nodes else ""


def _allreduce(told: Mapping[str, Any]) -> Iterator[Finding]:
    yield ok("start", f"{told['after_start_s']:.1f} s from `distrain run` to the end of the first allreduce")
    rate = told["nbytes"] / told["seconds"]
    found = f"{told['nbytes'] / 2**20:.0f} MiB in {told['seconds'] * 1000:.1f} ms, {rate / 1e6:.0f} MB/s"
    if told["wrong"]:
        remedy = "Use another MPI, `pip install distrain[mpich]`: with this one no training can be right."
        yield problem("allreduce", f"{found}; wrong numbers on ranks {told['wrong']}", remedy)
    elif rate < _SLOW:
        remedy = "See whether others use the cores, and whether this MPI goes through the network on one machine."
        yield warning("allreduce", f"{found}; the sum is right", remedy)
    else:
        yield ok("allreduce", f"{found}; the sum is right")


def _clock(told: Mapping[str, Any]) -> Finding:
    found = f"{told['difference_s'] * 1e6:+.0f} µs between the ranks, ± {told['round_trip_s'] * 5e5:.0f} µs"
    if abs(told["difference_s"]) > _CLOCKS_S:
        return warning("clocks", found, "Let NTP set the clocks of the hosts, so that reports and logs have an order.")
    return ok("clocks", found)


def _side_channel(told: Mapping[str, Any]) -> Finding:
    """By which the ranks tell rank 0 how they are, and what they have measured."""
    if not told["is_open"]:
        remedy = "Unset DISTRAIN_SIDE_CHANNEL, or name an address of rank 0's host in it that the others reach."
        return warning("side channel", "not open: trainings go on, but their logs and heartbeats lack ranks", remedy)
    if told["missing"]:
        remedy = "Let the hosts of a job reach each other by TCP (DISTRAIN_SIDE_CHANNEL chooses the address)."
        found = f"nothing came from ranks {told['missing']}: logs and heartbeats lack them"
        return warning("side channel", found, remedy)
    return ok("side channel", "heartbeats and sums for the log came from all ranks")


def _feeders(told: Mapping[str, Any]) -> Finding:
    found = f"MultiprocessIterator had its first minibatch after {max(told['seconds']):.2f} s"
    if not told["is_right"]:
        return problem("feeders", f"{found}; it was a wrong one", "Report this, with the text below.")
    return ok("feeders", f"{found}; it is right on all ranks")
