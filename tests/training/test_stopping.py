"""Signals that stop a training: the same step on all ranks, a snapshot, code 75."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distrain import comm
from distrain.errors import ArgumentError
from distrain.training.stopping import SIGNALS, Stopping, grace_s, steps_between

SUITE = Path(__file__).with_name("stopping_suite.py")
MODES = {
    "direct": {"DISTRAIN_EXCHANGE": "direct"},
    "buckets": {"DISTRAIN_EXCHANGE": "buckets:64"},
    "double": {"DISTRAIN_EXCHANGE": "double"},
    "reproducible": {"DISTRAIN_REPRODUCIBLE": "1"},
}


def ends(folder: Path, start: int = 0) -> list[list[str]]:
    """Code, iteration and digest of each rank, at the start of that number."""
    return [path.read_text().split() for path in sorted(folder.glob(f"rank-*-{start}"))]


def check_end(folder: Path, ranks: int, at: int) -> int:
    """All ranks have stopped at the same iteration, soon after the signal, and it is saved; returns it."""
    found = ends(folder)
    assert len(found) == ranks
    assert found == [found[0]] * ranks
    code, iteration = int(found[0][0]), int(found[0][1])
    assert code == 75
    assert at <= iteration <= at + 64
    snapshot = folder / f"snapshot_iter_{iteration}"
    assert snapshot.exists()
    return iteration


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_a_signal_stops_a_training_of_one_process(run_ranks: Callable[..., Any], tmp_path: Path, name: str) -> None:
    done = run_ranks(SUITE, 1, str(tmp_path), "100", "0", name, "5")
    assert done.returncode == 75
    assert check_end(tmp_path, 1, 5) == 5
    assert f"distrain: stopped at iteration 5 by {name}; {tmp_path}/snapshot_iter_5 has the whole" in done.stderr
    assert "the signal on): load the file to continue, or give snapshot() autoload=True.\n" in done.stderr


@pytest.mark.mpi
def test_a_signal_after_the_stop_changes_nothing(run_ranks: Callable[..., Any], tmp_path: Path) -> None:
    done = run_ranks(SUITE, 2, str(tmp_path), "100", "1", "SIGUSR1", "5", "late")
    assert done.returncode == 75
    check_end(tmp_path, 2, 5)


@pytest.mark.mpi
@pytest.mark.parametrize("victim", ["0", "1", "all"])
def test_all_ranks_stop_after_the_same_step(
    run_ranks: Callable[..., Any], mpi_python: str, tmp_path: Path, victim: str
) -> None:
    done = run_ranks(SUITE, 3, str(tmp_path), "1000000", victim, "SIGUSR2", "5", python=mpi_python)
    assert done.returncode == 75
    iteration = check_end(tmp_path, 3, 5)
    assert done.stderr.count(f"distrain: stopped at iteration {iteration} by SIGUSR2; ") == 1
    assert (tmp_path / "log").exists()


@pytest.mark.mpi
@pytest.mark.parametrize("mode", [*MODES, "counting"])
def test_it_does_not_matter_what_the_updater_exchanges(
    run_ranks: Callable[..., Any], tmp_path: Path, mode: str
) -> None:
    words = ["counting"] if mode == "counting" else []
    done = run_ranks(SUITE, 2, str(tmp_path), "1000000", "1", "SIGTERM", "70", *words, env=MODES.get(mode, {}))
    assert done.returncode == 75
    check_end(tmp_path, 2, 70)


@pytest.mark.mpi
def test_a_training_that_was_stopped_continues_to_the_same_weights(
    run_ranks: Callable[..., Any], tmp_path: Path
) -> None:
    env = {**MODES["reproducible"], "DISTRAIN_SEED": "1"}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_ranks(SUITE, 2, str(whole), "300", "none", "SIGTERM", "0", "auto", env=env).check()
    done = run_ranks(SUITE, 2, str(parts), "300", "1", "SIGTERM", "50", "auto", env=env)
    assert done.returncode == 75
    assert "): start it again to continue.\n" in done.stderr
    done = run_ranks(SUITE, 2, str(parts), "300", "0", "SIGTERM", "150", "auto", env=env)
    assert done.returncode == 75
    run_ranks(SUITE, 2, str(parts), "300", "none", "SIGTERM", "0", "auto", env=env).check()
    assert ends(parts, 2) == ends(whole)
    assert (parts / "log").read_text().count('"iteration"') == 100


@pytest.mark.parametrize(
    ("word", "reason"), [("nothing", "the trainer has no snapshot()"), ("condition", "the condition of its snapshot()")]
)
def test_it_is_said_if_nothing_was_saved(run_ranks: Callable[..., Any], tmp_path: Path, word: str, reason: str) -> None:
    done = run_ranks(SUITE, 1, str(tmp_path), "100", "0", "SIGTERM", "5", word)
    assert done.returncode == 75
    assert f"distrain: stopped at iteration 5 by SIGTERM. Nothing was saved: {reason}" in done.stderr
    assert list(tmp_path.glob("snapshot_iter_*")) == []


@pytest.mark.parametrize("second", ["grace", "signal"])
def test_a_save_that_takes_too_long_leaves_the_snapshot_before(
    run_ranks: Callable[..., Any], mpi: Any, tmp_path: Path, second: str
) -> None:
    arguments = [sys.executable, str(SUITE), str(tmp_path), "8", "0", "SIGTERM", "5", "slow"]
    mark = uuid.uuid4().hex
    env = mpi.environment(mark, {"DISTRAIN_GRACE": "0.3" if second == "grace" else "60"})
    child = subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "saves\n"
        while second == "signal" and child.poll() is None:
            child.send_signal(signal.SIGTERM)  # copies of the first at the beginning
            time.sleep(0.1)
        assert child.wait(30) == (-signal.SIGALRM if second == "grace" else -signal.SIGTERM)
    finally:
        mpi.kill_marked(mark)
        child.communicate(timeout=10)
    assert len(list(tmp_path.glob(".snapshot-*"))) == 1
    assert {path.name for path in tmp_path.glob("snapshot_iter_*")} == {"snapshot_iter_2", "snapshot_iter_4"}
    run_ranks(SUITE, 1, str(tmp_path), "8", "none", "SIGTERM", "5", "auto").check()
    assert ends(tmp_path)[0][:2] == ["0", "8"]
    assert list(tmp_path.glob(".snapshot-*")) == []


def test_a_training_that_is_complete_is_no_training_to_continue(run_ranks: Callable[..., Any], tmp_path: Path) -> None:
    run_ranks(SUITE, 1, str(tmp_path), "5", "0", "SIGTERM", "5").check()
    assert ends(tmp_path)[0][:2] == ["0", "5"]


SECOND = """
import os, signal, sys, time
from distrain import comm
from distrain.training import stopping

stopping._SAME_S = float(sys.argv[1])
with stopping.Stopping(comm.local()) as signals:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    print("lives", signals.is_now(), flush=True)
os.kill(os.getpid(), signal.SIGUSR1)
print("lives", flush=True)
"""


@pytest.mark.parametrize(("seconds", "code", "words"), [("60", 0, "lives True\nlives\n"), ("-1", -15, "")])
def test_a_second_signal_ends_at_once_unless_it_is_a_copy_of_the_first(
    run_ranks: Callable[..., Any], seconds: str, code: int, words: str
) -> None:
    done = run_ranks(SECOND, 1, seconds)
    assert (done.returncode, done.stdout) == (code, words)


GRACE = """
import os, signal, time
from distrain import comm
from distrain.training import stopping

with stopping.Stopping(comm.local()) as signals:
    os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
if os.environ["DISTRAIN_GRACE"] == "0.1":
    with stopping.Stopping(comm.local()) as signals:
        signals._hear(signal.SIGTERM, None)
        time.sleep(60)
time.sleep(0.5)
print(signal.getitimer(signal.ITIMER_REAL))
"""


@pytest.mark.parametrize(("grace", "code", "words"), [("0.1", -signal.SIGALRM, ""), ("0.3", 0, "(0.0, 0.0)\n")])
def test_the_time_to_stop_has_an_end(run_ranks: Callable[..., Any], grace: str, code: int, words: str) -> None:
    done = run_ranks(GRACE, 1, env={"DISTRAIN_GRACE": grace})
    assert (done.returncode, done.stdout) == (code, words)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_a_time_that_cannot_be(text: str) -> None:
    with pytest.raises(ArgumentError, match=f"DISTRAIN_GRACE='{text}': expected a number of seconds above 0"):
        grace_s(text)
    assert grace_s(None) == grace_s("") == 60


def test_handlers_of_the_script_stay_and_others_come_back() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with Stopping(comm.local()) as stopping:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            assert not stopping.is_now()
        assert heard == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_process_that_was_forked_meanwhile_ends_at_a_signal(run_ranks: Callable[..., Any]) -> None:
    script = """
    import os, signal, sys, time
    from distrain import comm
    from distrain.training import stopping

    with stopping.Stopping(comm.local()) as signals:
        ready, say = os.pipe()
        child = os.fork()
        if not child:
            os.write(say, b"1")
            time.sleep(60)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        print(os.waitpid(child, 0)[1], signals.is_now())
    """
    assert run_ranks(script, 1).check().stdout == "15 False\n"


def test_a_trainer_in_another_thread_leaves_signals_alone() -> None:
    found: list[Any] = []

    def look() -> None:
        with Stopping(comm.local()) as stopping:
            found.append((signal.getsignal(signal.SIGTERM), stopping.is_now()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(10)
    assert found == [(signal.SIG_DFL, False)]


def test_a_script_without_trainer_ends_at_a_signal() -> None:
    script = "import os, signal, distrain.training; os.kill(os.getpid(), signal.SIGTERM); print('lives')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


@pytest.mark.parametrize(
    ("steps", "seconds", "then"),
    [(1, 1e-4, 2), (2, 2e-4, 4), (64, 64e-4, 64), (64, 0.0, 64), (64, 6.4, 1), (4, 0.1, 2), (1, 10.0, 1), (1, 0.04, 1)],
)
def test_steps_between_questions(steps: int, seconds: float, then: int) -> None:
    assert steps_between(steps, seconds) == then


def test_asking_costs_next_to_nothing() -> None:
    with Stopping(comm.local()) as stopping:
        best = min(_seconds(stopping.is_now) for _ in range(5))
    assert best < 5e-6 * 1000  # measured: 0.2 µs
    assert len(SIGNALS) == 3


def _seconds(function: Callable[[], bool]) -> float:
    start = time.perf_counter()
    for _ in range(1000):
        function()
    return time.perf_counter() - start
