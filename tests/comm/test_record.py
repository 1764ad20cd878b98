"""The entries of a process, as the launcher reads them when it is dead."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from distrain import black_box
from distrain_launch import collectives, keeper

REPO = Path(__file__).parents[2]

SCRIPT = """
import os, signal
import numpy as np
from distrain import black_box
from distrain.comm import record

def describe(op):
    raise AssertionError

gradients = record.new_slot(describe, (3, 1), 4, black_box.GRADIENTS)
messages = record.new_slot(describe, (3, 1), 4, black_box.MESSAGES)
messages.leave()  # nothing was entered
for count in range(1, 41):
    gradients.enter((), count, b"sum", 11, record.dtype_name(np.dtype("f4")))
    gradients.leave()
messages.enter((), 2, b"recv from")
gradients.enter((), 41, b"sum", 12, b"float32")
if os.fork() == 0:  # not the rank
    gradients.leave()
    gradients.enter((), 99, b"sum", 12, b"float32")
    os._exit(0)
os.wait()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left() -> list[collectives.Operation]:
    with tempfile.TemporaryFile() as file:
        file.truncate(keeper.BOX_BYTES)
        found = os.fstat(file.fileno())
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPO),
            "DISTRAIN_BLACK_BOX": f"{file.fileno()}:{found.st_dev}:{found.st_ino}",
        }
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, pass_fds=[file.fileno()], timeout=60)
        assert done.returncode == -signal.SIGKILL
        return collectives.read(os.pread(file.fileno(), keeper.ENTRIES_BYTES, keeper.BOX_BYTES - keeper.ENTRIES_BYTES))


def test_the_last_ones_survive_a_kill(left: list[collectives.Operation]) -> None:
    assert [one.number for one in left] == list(range(10, 42))
    assert [one.count for one in left[:-2]] == list(range(11, 41))
    assert all([0 < one.begin <= one.end for one in left[:-2]])
    assert [one.end for one in left[-2:]] == [0.0, 0.0]
    assert left[0].text == "exchange 11 of gradients, sum of 11 float32"
    assert left[-2].text == "recv from rank 2"
    assert left[-1].text == "exchange 41 of gradients, sum of 12 float32"
    assert (left[-1].lane, left[-1].size) == ((3, 1, black_box.GRADIENTS), 4)


def test_writer_and_reader_agree() -> None:
    assert black_box.ENTRY.size * black_box.ENTRIES == keeper.ENTRIES_BYTES
    assert struct.calcsize("=qddqqiiii16s16sq") == black_box.ENTRY.size
