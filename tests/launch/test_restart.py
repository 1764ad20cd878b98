"""Jobs that fail and are started again."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distrain.errors import ArgumentError, LaunchError
from distrain_launch import restart
from distrain_launch.conclusion import Attempt
from distrain_launch.restart import Restarts, is_loop

SUITE = str(Path(__file__).with_name("restart_suite.py"))
RUN = ["-m", "distrain_launch", "run", "-n", "2", "--restart-delay", "0.05"]
ENV = {"CUDA_VISIBLE_DEVICES": "", "DISTRAIN_REPRODUCIBLE": "1", "DISTRAIN_SEED": "3"}


def failed(kind: str, iteration: int, words: str = "") -> Attempt:
    return Attempt(1, words, kind, iteration)


WELL = Attempt(0)


@pytest.mark.parametrize(
    ("attempts", "limit", "code", "delays"),
    [
        ([WELL], 3, 0, []),
        ([Attempt(75, "stopped")], 3, 75, []),
        ([Attempt(143, "told to end")], 3, 75, []),
        ([Attempt(130, "told to end")], 3, 130, []),
        ([failed("a", 1), failed("-10 ", -1)], 3, 75, [1]),
        ([failed("a", 1), Attempt(130, "", "130 KeyboardInterrupt", 4)], 3, 130, [1]),
        ([failed("a", 1), failed("-15 ", -1)], 3, 75, [1]),
        ([failed("a", 1), WELL], 3, 0, [1]),
        ([failed("a", 1), failed("b", 1), failed("c", 1), failed("d", 1)], 3, 1, [1, 2, 4]),
        ([failed("a", 1), failed("b", 1), failed("c", 2), failed("d", 2), WELL], 9, 0, [1, 2, 1, 2]),
        ([failed(str(i), 1) for i in range(9)], 8, 1, [1, 2, 4, 8, 16, 32, 60, 60]),
        ([failed("a", 1), failed("a", 1)], 3, 1, [1]),
        ([failed("a", 9), failed("a", 7)], 3, 1, [1]),
        ([failed("a", 7), failed("a", 9), WELL], 3, 0, [1, 1]),
        ([failed("-11 ", 7), failed("-11 ", 7)], 3, 1, [1]),
        ([failed("-9 ", 7), failed("-9 ", 7), failed("-9 ", 7), WELL], 3, 0, [1, 2, 4]),
        ([failed("-11 ", 9), failed("-11 ", 7), WELL], 3, 0, [1, 2]),
        ([failed("a", -1), failed("a", -1)], 3, 1, [1]),
        ([failed("-11 ", -1), failed("-11 ", -1)], 3, 1, [1]),
    ],
)
def test_which_failures_are_followed_by_a_restart(
    monkeypatch: pytest.MonkeyPatch, attempts: list[Attempt], limit: int, code: int, delays: list[float]
) -> None:
    waited: list[float] = []

    def wait(seconds: float, say: Any, words: str) -> None:
        waited.append(seconds)
        say(words)

    monkeypatch.setattr(restart, "_wait", wait)
    left: Iterator[Attempt] = iter(attempts)
    said: list[str] = []
    assert restart.run(lambda more, is_again: next(left), Restarts(limit), said.append) == code
    assert list(left) == []
    assert waited == delays
    assert [line.startswith(f"distrain: restart {i + 1} of at most {limit} in ") for i, line in enumerate(said)] == [
        *[True] * len(delays),
        *[False] * (len(said) - len(delays)),
    ]


def test_what_cannot_be_started_again_is_tried_later(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(restart, "_wait", lambda seconds, say, words: waited.append(seconds))
    left = iter([failed("a", 7), None, None, failed("b", 9), None, None])

    def start(more: dict[str, str], is_again: bool) -> Attempt:
        attempt = next(left)
        if attempt is None:
            raise LaunchError("b: no answer.")
        return attempt

    said: list[str] = []
    assert restart.run(start, Restarts(5), said.append) == 2
    assert waited == [1, 2, 4, 1, 2]
    assert said.count("distrain: b: no answer.\n") == 4
    assert said[-1] == "distrain: not started again: that was failure 6, and --max-restarts is 5.\n"
    left = iter([None])
    with pytest.raises(LaunchError):
        restart.run(start, Restarts(5), said.append)


def test_a_loop_with_a_failed_start_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "_wait", lambda seconds, say, words: None)
    left = iter([failed("a", 7), None, failed("a", 7)])

    def start(more: dict[str, str], is_again: bool) -> Attempt:
        attempt = next(left)
        if attempt is None:
            raise LaunchError("b: no answer.")
        return attempt

    said: list[str] = []
    assert restart.run(start, Restarts(5), said.append) == 1
    assert "failed twice in the same way, at iteration 7" in said[-1]


def test_the_two_reports_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "_wait", lambda seconds, say, words: None)
    left = iter([failed("a", 7, "\nrank 0 failed\n"), failed("a", 7, "\nrank 1 failed\n")])
    said: list[str] = []
    restart.run(lambda more, is_again: next(left), Restarts(9), said.append)
    assert said[-1] == (
        "distrain: not started again: it has failed twice in the same way, at iteration 7.\n"
        "The first time it was:\nrank 0 failed\n"
    )


def test_another_failure_is_no_loop() -> None:
    assert not is_loop(failed("a", 7), failed("b", 7))
    assert not is_loop(WELL, WELL)


def test_variables_of_the_attempts() -> None:
    told = restart.variables({})
    first, second = next(told), next(told)
    assert first["DISTRAIN_JOB"] == second["DISTRAIN_JOB"] != next(restart.variables({}))["DISTRAIN_JOB"]
    assert (first["DISTRAIN_RESTART"], second["DISTRAIN_RESTART"]) == ("0", "1")
    told = restart.variables({"DISTRAIN_JOB": "slurm-5", "DISTRAIN_RESTART": "2"})
    assert [next(told), next(told)] == [{"DISTRAIN_JOB": "slurm-5", "DISTRAIN_RESTART": n} for n in ("2", "3")]
    with pytest.raises(ArgumentError, match="DISTRAIN_RESTART='two'"):
        next(restart.variables({"DISTRAIN_RESTART": "two"}))


def run(mpi: Any, python: str, folder: Path, how: str, *options: str, last: int = 60) -> Any:
    return mpi.run([python, *RUN, *options, SUITE, str(folder), str(last), how], env=ENV, timeout=90)


def begun(folder: Path) -> list[int]:
    return list(map(int, (folder / "begun").read_text().split()))


@pytest.mark.mpi
def test_ranks_that_are_killed_change_no_bit_of_the_result(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    run(mpi, mpi_python, tmp_path / "whole", "well").check()
    out = tmp_path / "killed"
    out.mkdir()
    for name in ("snapshot_iter_57", "snapshot_iter_3"):  # of an earlier training; not what the job continues from
        (out / name).write_bytes((tmp_path / "whole" / "snapshot_iter_57").read_bytes())
    done = run(mpi, mpi_python, out, "kill", "--max-restarts", "3", "--log-dir", str(tmp_path / "logs")).check()
    assert (out / "weights").read_text() == (tmp_path / "whole" / "weights").read_text()
    assert (out / "log").read_bytes().count(b'"iteration"') == 12
    starts = begun(out)
    assert len(starts) == 4
    assert starts[0] == 0
    assert all(b > a and b % 3 == 0 for a, b in zip(starts, starts[1:], strict=False))
    assert done.stderr.count("was ended by SIGKILL") == 3
    (trained, whole), *more = re.findall(r"effective time: (\S+) s of (\S+) s .* with 3 restarts\.\n", done.stderr)
    assert more == []
    assert 0 < float(trained) < float(whole) < 90
    assert f"start 4 (3 after a failure): continues from {out}/snapshot_iter_{starts[3]}\n" in done.stdout
    noted = json.loads((out / "run.json").read_text())["starts"]
    assert [(start["restart"], start["after"]) for start in noted] == [
        (0, None),
        *[(n, "failure") for n in (1, 2, 3)],
    ]
    assert (tmp_path / "logs" / "rank-0.log").read_text().count("continues from") == 3  # of all attempts


@pytest.mark.mpi
def test_the_same_failure_twice_is_enough(mpi: Any, tmp_path: Path) -> None:
    done = run(mpi, sys.executable, tmp_path, "same", "--max-restarts", "5")
    assert done.returncode == 1
    assert begun(tmp_path) == [0, 3]
    assert "distrain: restart 1 of at most 5 in 0.05 s.\n" in done.stderr
    assert "distrain: not started again: it has failed twice in the same way, at iteration 5.\nThe first" in done.stderr
    assert done.stderr.count("ValueError: the cause\n") >= 3


@pytest.mark.mpi
def test_a_job_that_never_trains_is_started_twice(mpi: Any, tmp_path: Path) -> None:
    done = run(mpi, sys.executable, tmp_path, "import", "--max-restarts", "5")
    assert done.returncode == 1
    assert "failed twice in the same way, before the first iteration.\n" in done.stderr


def test_a_signal_that_ranks_do_not_hear_is_no_reason_to_start_them_again(mpi: Any, tmp_path: Path) -> None:
    script = tmp_path / "early.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)")
    done = mpi.run(
        [sys.executable, "-m", "distrain_launch", "run", "-n", "1", "--max-restarts", "2", str(script)], env=ENV
    )
    assert done.returncode == 75
    assert done.stderr.endswith("distrain: SIGUSR1 came when no training ran: start it again to continue.\n")


@pytest.mark.mpi
def test_restarts_are_counted(mpi: Any, tmp_path: Path) -> None:
    done = run(mpi, sys.executable, tmp_path, "other", "--max-restarts", "2")
    assert done.returncode == 1
    assert begun(tmp_path) == [0, 3, 3]
    assert done.stderr.endswith("distrain: not started again: that was failure 3, and --max-restarts is 2.\n")


@pytest.mark.mpi
def test_a_job_that_stops_to_be_started_again_is_left_to_others(mpi: Any, tmp_path: Path) -> None:
    name = {"DISTRAIN_JOB": "slurm-7"}
    command = [sys.executable, *RUN, "--max-restarts", "2", SUITE, str(tmp_path), "30", "stop"]
    done = mpi.run(command, env={**ENV, **name})
    assert done.returncode == 75
    assert "): start it again to continue.\n" in done.stderr
    assert "restart" not in done.stderr
    (stopped_at,) = {int(path.name.rpartition("_")[2]) for path in tmp_path.glob("snapshot_iter_*")} - {3, 6, 9}
    mpi.run(command, env={**ENV, **name, "DISTRAIN_RESTART": "1"}).check()
    assert begun(tmp_path) == [0, stopped_at]


@pytest.mark.mpi
def test_failures_are_counted_across_launchers_and_stops_are_not(mpi: Any, tmp_path: Path) -> None:
    def start(how: str, number: int, *options: str) -> Any:
        env = {**ENV, "DISTRAIN_JOB": "slurm-7", "DISTRAIN_RESTART": str(number)}
        return mpi.run([sys.executable, *RUN, *options, SUITE, str(tmp_path), "60", how], env=env)

    assert start("stop", 0).returncode == 75
    assert start("fail", 1).returncode == 1
    done = start("fail", 2, "--max-restarts", "2")
    assert done.returncode == 1
    assert "start 3 (1 after a failure, 1 after the time limit): continues from " in done.stdout
    assert "start 4 (2 after a failure, 1 after the time limit): continues from " in done.stdout
    assert "distrain: restart 2 of at most 2 in 0.05 s.\n" in done.stderr
    assert done.stderr.endswith("distrain: not started again: that was failure 3, and --max-restarts is 2.\n")
    noted = json.loads((tmp_path / "run.json").read_text())["starts"]
    assert [start["after"] for start in noted] == [None, "time limit", "failure", "failure"]


def test_one_rank_is_started_again_too(mpi: Any, tmp_path: Path) -> None:
    script = tmp_path / "fail.py"
    script.write_text("import os\nn = os.environ['DISTRAIN_RESTART']\nprint(n)\nraise SystemExit(n != '1')")
    options = ["-n", "1", "--max-restarts", "1"]
    done = mpi.run([sys.executable, "-m", "distrain_launch", "run", *options, str(script)], env=ENV)
    assert done.check().stdout == "0\n1\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR2, 75)])
def test_a_signal_between_two_attempts(mpi: Any, tmp_path: Path, number: int, code: int) -> None:
    script, mark = tmp_path / "fail.py", uuid.uuid4().hex
    script.write_text("raise SystemExit(3)")
    options = ["-n", "1", "--max-restarts", "1", "--restart-delay", "60"]
    child = subprocess.Popen(
        [sys.executable, "-m", "distrain_launch", "run", *options, str(script)],
        env=mpi.environment(mark, ENV),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stderr is not None
        end = time.monotonic() + 30
        while "restart 1 of at most 1 in 60 s" not in child.stderr.readline():
            assert time.monotonic() < end
        child.send_signal(number)
        assert child.wait(20) == code
        assert child.stderr.read() == f"distrain: ended by {signal.Signals(number).name} before the restart.\n"
    finally:
        mpi.kill_marked(mark)
        child.communicate(timeout=10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-restarts", "-1"], "--max-restarts -1: the number must be 0 or more."),
        (["--restart-delay", "-1"], "--restart-delay -1.0: the time must be 0 s or more."),
        (["--restart-delay", "nan"], "--restart-delay nan: the time must be 0 s or more."),
        (["--grace", "0"], "--grace 0.0: the time must be more than 0 s."),
        (["--max-restarts", "often"], "invalid int value"),
        (["--min-n", "0"], "--min-n 0: expected a number of ranks from 1 to that of -n."),
        (["-n", "2", "--min-n", "3"], "--min-n 3: expected a number of ranks from 1 to that of -n."),
        (["--hosts", "localhost:2", "--min-n", "3"], "--min-n 3: the job has 2 ranks at most."),
    ],
)
def test_options_that_cannot_be(mpi: Any, options: list[str], words: str) -> None:
    done = mpi.run([sys.executable, "-m", "distrain_launch", "run", *options, SUITE])
    assert done.returncode == 2
    assert words in done.stderr
