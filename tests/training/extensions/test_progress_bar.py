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

import pytest

from distrain.training import extensions
from distrain.training.extensions import progress_bar


def test_prints_lines_where_there_is_no_terminal(make_trainer, monkeypatch):
    monkeypatch.setattr(progress_bar, "_LINE_INTERVAL_S", 0.05)
    out = io.StringIO()
    trainer = make_trainer((20, "iteration"))
    trainer.extend(extensions.ProgressBar(out=out))
    trainer.extend(lambda trainer: time.sleep(0.01), name="sleep")
    trainer.run()
    lines = out.getvalue().splitlines()
    assert 2 <= len(lines) <= 6
    pattern = r"progress: iteration (\d+), epoch \d+\.\d\d, \d+\.\d%, [\d.]+ iterations/s, \d:\d\d:\d\d left"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found), lines
    assert int(found[-1][1]) == 20


def test_a_fast_training_prints_its_last_line_only(make_trainer, capsys):
    trainer = make_trainer((20, "iteration"))
    trainer.extend(extensions.ProgressBar(training_length=(40, "iteration")))
    trainer.run()
    out = capsys.readouterr().out
    assert out.startswith("progress: iteration 20, epoch 2.00, 50.0%, ")
    assert out.count("\n") == 1


def test_a_training_without_a_known_end(make_trainer, capsys):
    trainer = make_trainer(lambda trainer: trainer.updater.iteration >= 2)
    trainer.extend(extensions.ProgressBar())
    trainer.run()
    assert re.fullmatch(r"progress: iteration 2, epoch 0\.20, [\d.]+ iterations/s\n", capsys.readouterr().out)


SCRIPT = """
import sys, time
import numpy as np
import distrain.links as L
from distrain import optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

class Counting(training.StandardUpdater):
    def update_core(self):
        next(self.get_iterator("main"))
        time.sleep(0.02)

iterator = SerialIterator(np.zeros((10, 2), np.float32), 1)
trainer = training.Trainer(Counting(iterator, optimizers.SGD().setup(L.Linear(2, 1))), (4, "epoch"), out=sys.argv[1])
trainer.extend(lambda t: t.observation.update(n=t.updater.iteration), name="write", priority=300)
trainer.extend(extensions.LogReport())
trainer.extend(extensions.PrintReport(["epoch", "validation/main/a_rather_long_name", "iteration", "elapsed_time",
                                       "main/another_name", "n"]))
trainer.extend(extensions.ProgressBar(update_interval=2))
trainer.extend(lambda t: print("said by the user"), name="say", trigger=(2, "epoch"))
if "fail" in sys.argv:
    trainer.extend(lambda t: 1 / 0, name="fail", trigger=(3, "epoch"))
trainer.run()
"""


def on_a_terminal(tmp_path, *args: str) -> str:
    """Runs the script on a pseudo-terminal of 80 columns; returns what came out."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "out"), *args],
        stdin=slave, stdout=slave, stderr=slave, env=environment | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    received = b""
    try:
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            received += data
    finally:
        os.close(master)
        process.wait(30)
    return received.decode()


def screen(text: str) -> list[str]:
    """What a terminal shows in the end: enough of one for carriage returns, line erasing and moving up."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
        elif token.startswith("\x1b["):
            if token.endswith("A"):
                row -= int(token[2:-1] or 1)
            elif token == "\x1b[2K":
                lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines]


def test_table_and_bar_share_a_terminal(tmp_path):
    text = on_a_terminal(tmp_path)
    assert "this epoch" in text
    assert re.search(r"\d\d iter, [123] epoch / 4 epochs", text)
    assert "iters/sec. Estimated time to finish: 0:00:0" in text
    shown = [line for line in screen(text) if line]
    assert [line.split() for line in shown[:3]] == [
        ["validation/"],
        ["main/", "main/"],
        ["epoch", "a_rather_long_name", "iteration", "elapsed_time", "another_name", "n"],
    ]
    rows = [line.split() for line in shown[3:]]
    assert [row[0] for row in rows] == ["1", "2", "said", "3", "4", "said"]
    assert [row[1] for row in rows if len(row) == 4 and row[0] != "said"] == ["10", "20", "30", "40"]
    assert max(map(len, shown)) <= 80


def test_an_error_is_readable_below_the_table(tmp_path):
    shown = "\n".join(screen(on_a_terminal(tmp_path, "fail")))
    assert "this epoch" not in shown
    assert "iteration 30, in extension\nfail: ZeroDivisionError: division by zero" in shown
    assert shown.rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_without_control_characters_gets_lines(monkeypatch, term):
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", term)
    with open(slave, "w") as out:
        assert out.isatty()
        assert not extensions.progress_bar.terminal.is_terminal(out)
    os.close(master)
