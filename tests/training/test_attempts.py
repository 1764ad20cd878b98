"""How the attempts of a job have ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distrain.training import attempts, extensions
from distrain.training.stopping import SIGNALS


@pytest.fixture
def start(make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Trains three iterations in an attempt of a job, in which something happens after the second."""

    def run(job: str, act: Any = lambda trainer: None, is_new: bool = True) -> list[str]:
        monkeypatch.setenv("DISTRAIN_JOB", job)
        if is_new:  # as in a process of its own
            monkeypatch.setattr(attempts, "_begun", {})
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        trainer = make_trainer((3, "iteration"))
        trainer.extend(extensions.RunRecord())
        trainer.extend(act, trigger=(2, "iteration"), name="act")
        before = attempts.earlier(trainer.out)
        try:
            trainer.run(show_loop_exception_msg=False)
        except (SystemExit, ValueError):
            assert act is not None
        return before

    yield run
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def send(number: int) -> Any:
    return lambda trainer: os.kill(os.getpid(), number)


def fail(trainer: Any) -> None:
    raise ValueError("the cause")


def test_what_each_attempt_was_ended_by(start: Any, tmp_path: Path) -> None:
    assert start("a", fail) == []
    assert start("a", send(signal.SIGUSR1)) == ["failure"]
    assert start("a", send(signal.SIGTERM)) == ["failure", "time limit"]
    assert start("a", send(signal.SIGUSR2)) == ["failure", "time limit", "preemption"]
    assert start("a") == ["failure", "time limit", "preemption", "time limit"]
    assert start("a") == ["failure", "time limit", "preemption", "time limit", "complete"]
    noted = json.loads((tmp_path / "result" / "run.json").read_text())["starts"]
    assert [one["after"] for one in noted] == [None, "failure", "time limit", "preemption", "time limit", "complete"]


def test_an_attempt_that_was_killed_has_failed(start: Any, tmp_path: Path) -> None:
    start("a", lambda trainer: (tmp_path / "kept").write_text((tmp_path / "result" / ".attempts").read_text()))
    (tmp_path / "kept").rename(tmp_path / "result" / ".attempts")  # as it was in the middle
    assert start("a") == ["failure"]


def test_another_job_counts_anew_and_one_without_a_name_not_at_all(start: Any, tmp_path: Path) -> None:
    start("a", fail)
    assert start("b", fail) == []
    assert start("") == []
    assert start("b") == ["failure"]
    (tmp_path / "result" / ".attempts").write_text("{half")
    assert start("b") == []


def test_a_second_trainer_of_a_process_is_the_same_attempt(start: Any) -> None:
    assert start("a") == start("a", fail, is_new=False) == []
    assert start("a") == ["failure"]


def test_title() -> None:
    assert attempts.title([]) == "start 1"
    assert attempts.title(["complete"]) == "start 2"
    ends = ["time limit", "failure", "preemption", "time limit"]
    assert attempts.title(ends) == "start 5 (1 after a failure, 2 after the time limit, 1 after a preemption)"
