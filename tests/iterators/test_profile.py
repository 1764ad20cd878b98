"""Profiles of real datasets with real feeders; what is asserted about times holds on any machine."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from distrain.datasets import TupleDataset
from distrain.errors import ArgumentError, DatasetError
from distrain.iterators.profile import Profile, Rate, Reading, advice, facts, load, profile

SCRIPT = """
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Noise:
    length: int = 200

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return np.full(50, i, np.float32), i


train = Noise()


def make():
    return Noise(100)


class Sets:
    small = Noise(10)


if __name__ == "__main__":
    raise SystemExit("trains")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "my script.py"
    path.write_text(SCRIPT)
    return path


class Sleepy:
    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> np.ndarray:
        time.sleep(0.05 if i == 7 else 0.002)
        return np.zeros(10, np.float32)


def test_what_is_measured() -> None:
    found = profile(Sleepy(), batch_size=8, feeders=[2, 1], seconds=0.3)
    reading = found.reading
    assert reading.read_s >= 0.002
    assert reading.nbytes == 40
    assert reading.slowest[0][0] == 7
    assert reading.slowest[0][1] >= 0.05
    assert [one.feeders for one in found.rates] == [1, 2]
    for one in found.rates:
        assert 0 < one.rate <= one.feeders / 0.002
        assert one.first_s > 0
    assert any("7 (" in line for line in facts(found))


def test_a_dataset_of_columns_is_read_by_column() -> None:
    x = np.zeros((300, 20), np.float32)
    reading = profile(TupleDataset(x, np.zeros(300, np.int32)), 50, feeders=[1], seconds=0.1).reading
    assert reading.by_column
    assert reading.nbytes == 84
    assert reading.slowest == []


def test_examples_that_do_not_fit_together_are_told() -> None:
    ragged = [np.zeros(1 + i % 3) for i in range(12)]
    found = profile(ragged, 4, feeders=[1], seconds=0.1)
    assert found.reading.collate_s is None
    assert "shape" in found.reading.problem
    assert any("converter" in line for line in facts(found))

    def padded(batch: list[np.ndarray], device: object) -> np.ndarray:
        return np.stack([np.resize(one, 3) for one in batch])

    found = profile(ragged, 4, feeders=[1], seconds=0.1, converter=padded)
    assert not found.reading.problem
    assert found.reading.nbytes == 24


def test_up_to_the_cores() -> None:
    found = profile(np.zeros((50, 3)), 10, seconds=0.05)
    numbers = [one.feeders for one in found.rates]
    assert numbers[0] == 1
    assert numbers[-1] == found.cores
    assert numbers == sorted(set(numbers))


def test_bad_arguments() -> None:
    data = np.zeros((5, 3))
    with pytest.raises(ArgumentError, match="batch_size"):
        profile(data, 0)
    with pytest.raises(ArgumentError, match="feeders"):
        profile(data, 2, feeders=[0])
    with pytest.raises(ArgumentError, match="seconds"):
        profile(data, 2, seconds=-1)
    with pytest.raises(DatasetError, match="empty"):
        profile([], 2)


def measured(*rates: float, cores: int = 4) -> Profile:
    reading = Reading(0.01, 0.0, 100.0, False, [])
    return Profile(10, cores, reading, [Rate(1 << i, rate, 0.5) for i, rate in enumerate(rates)])


@pytest.mark.parametrize(
    ("rates", "saturating", "step", "needed"),
    [
        ((100, 200, 390), 4, 0.1, 1),
        ((100, 200, 390), 4, 0.06, 2),
        ((100, 200, 390), 4, 0.02, None),
        ((100, 110, 112), 2, 0.1, 1),
        ((100, 90, 80), 1, 0.11, 1),
    ],
)
def test_how_many_feeders(rates: tuple[float, ...], saturating: int, step: float, needed: int | None) -> None:
    found = measured(*rates)
    assert found.saturating.feeders == saturating
    assert found.needed(step) == needed


def test_advice_names_the_number() -> None:
    assert "n_processes=2" in advice(measured(100, 200, 390), 0.06)[1]
    too_few = advice(measured(100, 200, 390), 0.02)[1]
    assert "About 5 would be needed" in too_few
    assert "no more than 4 cores" in advice(measured(100, 200, 390), None)[0]
    assert "no faster" in advice(measured(100, 110, 112), None)[0]
    assert "might still rise" in advice(measured(100, 200), None)[0]


def test_targets(script: Path) -> None:
    assert len(load(f"{script}:train")) == 200
    assert len(load(f"{script}:make")) == 100
    assert len(load(f"{script}:Noise")) == 200
    assert len(load(f"{script}:Sets.small")) == 10


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("train", "names no dataset"),
        ("no_such_module_at_all:x", "there is no module 'no_such_module_at_all'"),
        ("/no/such/file.py:x", "there is no file"),
        ("{script}:test", "has no 'test'; it has .*train"),
        ("{script}:np.pi", "is a float, and no dataset"),
    ],
)
def test_bad_targets(script: Path, target: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load(target.format(script=script))


COMMAND = [sys.executable, "-W", "error", "-m", "distrain.iterators.profile"]
FEW = ["--batch-size", "20", "--seconds", "0.1", "--feeders", "1", "2", "--step", "10"]


def test_the_command_prints_plain_lines(script: Path) -> None:
    done = subprocess.run([*COMMAND, f"{script}:train", *FEW], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("feeders")] == [
        "feeders: none",
        "feeders: 1",
        "feeders: 2",
    ]
    assert lines[-1].endswith("n_processes=1")
    assert done.stdout.isascii() or "µ" in done.stdout


def test_the_command_prints_a_table_on_a_terminal(script: Path) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        process = subprocess.Popen([*COMMAND, f"{script}:train", *FEW], stdout=theirs, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while chunk := screen.read(4096):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        assert process.wait(60) == 0
    assert "┃" in shown.decode()
    assert "first minibatch" in shown.decode()


def test_the_command_says_what_is_wrong(script: Path) -> None:
    done = subprocess.run([*COMMAND, f"{script}:nothing"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("ArgumentError: ")
    assert "Traceback" not in done.stderr
