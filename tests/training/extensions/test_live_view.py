from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import pyte
import pytest

from distrain import training
from distrain.training import extensions
from distrain.training.extensions import live_view

SCRIPT = """
import sys, time
from dataclasses import dataclass, field
import numpy as np
import distrain.links as L
from distrain import optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

@dataclass
class State:
    rank: int
    state: str = "running"
    time: dict = field(default_factory=lambda: dict(data=.01, forward=.02, backward=.03, exchange=.09, update=.01))
    failure: str | None = None
    host: str = "node7"
    pid: int = 1
    iteration: int = 3
    phase: str = "forward"
    seen: float = 0.0

class Watched(training.Trainer):
    @property
    def rank_states(self):
        slow = dict(data=.09, forward=.02, backward=.03, exchange=.0, update=.01)
        broken = State(3, "failed", failure="ValueError: no")
        return [State(0), State(1, time=slow), State(2, "silent"), broken] + [State(i) for i in range(4, ranks)]

    @rank_states.setter
    def rank_states(self, value):
        pass

class Counting(training.StandardUpdater):
    def update_core(self):
        next(self.get_iterator("main"))
        time.sleep(0.02)

ranks = int(sys.argv[2])
iterator = SerialIterator(np.zeros((10, 2), np.float32), 1)
updater = Counting(iterator, optimizers.SGD().setup(L.Linear(2, 1)))
trainer = Watched(updater, (6, "epoch"), out=sys.argv[1])
write = {"main/loss": 0.123456789, "validation/main/a_name_that_is_far_too_long_for_it": 7.5, "time/forward": 1.0}
trainer.extend(lambda t: t.observation.update(write), name="write", priority=300)
trainer.extend(extensions.LogReport())
trainer.extend(extensions.LiveView(quiet="quiet" in sys.argv))
trainer.extend(lambda t: print("said by the user"), name="say", trigger=(2, "epoch"))
if "fail" in sys.argv:
    trainer.extend(lambda t: 1 / 0, name="fail", trigger=(3, "epoch"))
trainer.run()
"""


def screens(tmp_path, width: int, *args: str, height: int = 40) -> list[list[str]]:
    """Runs the script on a pseudo-terminal; returns what was on it after each piece of output."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "out"), *args],
        stdin=slave, stdout=slave, stderr=slave, env=environment | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    screen = pyte.Screen(width, height)
    stream = pyte.ByteStream(screen)
    seen = []
    try:
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            stream.feed(data)
            seen.append([line.rstrip() for line in screen.display])
    finally:
        os.close(master)
        process.wait(30)
    return seen


def test_80_columns(tmp_path):
    *others, end = screens(tmp_path, 80, "4")
    progress = (
        r"training [━╸╺]+ +\d+\.\d\d%\n +epoch [━╸╺]+ +\d+\.\d\d%\n"
        r"iteration \d+ · epoch [1-5]\.\d\d of 6 · 0:00:\d\d left · [\d.]+ iterations/s · "
    )
    assert any(re.search(progress, "\n".join(one)) for one in others)
    lines = [line for line in end if line]
    text = "\n".join(lines)
    assert text.count("said by the user") == 3
    assert re.search(r"^iteration +40 +50 +60$", text, re.MULTILINE)
    assert re.search(r"^main/loss +0\.12346 +0\.12346 +0\.12346$", text, re.MULTILINE)
    assert re.search(r"^validation/main/a_name_that_is_f… +7\.5 +7\.5 +7\.5$", text, re.MULTILINE)
    assert "time/forward" not in text
    assert [line.split()[:2] for line in lines[-4:]] == [
        ["0", "running"], ["1", "straggler"], ["2", "silent"], ["3", "failed"],
    ]  # fmt: skip
    assert lines[-3].split() == ["1", "straggler", "3", "forward", "150", "60%", "0%"]
    assert lines[-1].endswith("ValueError: no")


def test_200_columns_show_more(tmp_path):
    end = screens(tmp_path, 200, "4")[-1]
    lines = [line for line in end if line]
    assert re.search(r"^iteration +10 +20 +30 +40 +50 +60$", "\n".join(lines), re.MULTILINE)
    names = "rank host state iteration phase ms data forward backward exchange update"
    assert lines[-5].split() == names.split()
    assert lines[-3].split() == "1 node7 straggler 3 forward 150 60% 13% 20% 0% 7%".split()


def test_many_ranks_on_a_low_terminal_show_those_that_need_attention(tmp_path):
    end = screens(tmp_path, 80, "64", height=14)[-1]
    lines = [line for line in end if line]
    assert len(lines) <= 14
    assert {"1", "2", "3"} <= {line.split()[0] for line in lines[-6:]}
    assert re.search(r"… and \d\d more", lines[-1])


def test_an_error_is_readable_below(tmp_path):
    end = screens(tmp_path, 80, "1", "fail")[-1]
    text = "\n".join(line for line in end if line)
    assert text.endswith("ZeroDivisionError: division by zero")
    assert "main/loss" in text  # the view stays above it


def test_quiet(tmp_path):
    assert {line for line in screens(tmp_path, 80, "4", "quiet")[-1] if line} == {"said by the user"}


class State:
    """As a rank's state is seen by others."""

    def __init__(self, rank, state="running", data=0.01, failure=None, iteration=5):
        self.rank, self.state, self.failure, self.iteration = rank, state, failure, iteration
        self.host, self.phase, self.time = "node7", "data", {"data": data, "forward": 0.02, "exchange": 0.3}


def test_lines_where_there_is_no_terminal(make_trainer, monkeypatch):
    monkeypatch.setattr(live_view, "_LINE_INTERVAL_S", 0.1)
    states = []
    monkeypatch.setattr(training.Trainer, "rank_states", property(lambda self: states), raising=False)
    out = io.StringIO()
    trainer = make_trainer((30, "iteration"))
    trainer.extend(lambda t: t.observation.update({"main/loss": 0.25, "time/data": 1}), name="write", priority=300)
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    trainer.extend(extensions.LiveView(out=out))

    def change(trainer):
        iteration = trainer.updater.iteration
        time.sleep(0.02)
        states[:] = [State(0, iteration=iteration), State(1, "silent" if iteration > 10 else "running")]

    trainer.extend(change, name="change")
    trainer.run()
    lines = out.getvalue().splitlines()
    pattern = r"progress: iteration \d+, epoch \d\.\d\d, \d+\.\d%, \S+ iterations/s, \d:\d\d:\d\d left, main/loss 0.25"
    progress = [line for line in lines if line.startswith("progress")]
    assert 2 <= len(progress) <= 20
    assert all(re.fullmatch(pattern, line) for line in progress), lines
    assert [line for line in lines if not line.startswith("progress")] == ["rank 1 on node7: silent, iteration 5"]


def test_chosen_figures_and_no_log(make_trainer):
    out = io.StringIO()
    trainer = make_trainer((3, "iteration"))
    trainer.extend(extensions.LiveView(["main/loss"], out=out))
    trainer.run()
    assert out.getvalue().startswith("progress: iteration 3")
    assert "main/loss" not in out.getvalue()


@pytest.mark.parametrize(
    ("waits", "slowest"),
    [
        ([0.01], None),
        ([0.01, 0.011], None),
        ([0.01, 0.01, 0.05], 2),
        ([0.5, 0.01], 0),
        ([0.5, 0.5], None),
        ([0.01, 0.02], None),
    ],
)
def test_who_is_the_straggler(waits, slowest):
    states = [State(i, data=data) for i, data in enumerate(waits)]
    assert live_view.rank_table.straggler(states) == slowest
    assert live_view.rank_table.straggler([State(0), State(1, "failed", data=9)]) is None
