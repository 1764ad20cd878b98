from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
SIZE = 4096
ENTRIES = 32 * 96


def left_by(script: str, place: str | None = None) -> tuple[int, int, bytes]:
    """Iteration, state and report that a process leaves in the box it is given."""
    return left_in_all(script, place)[:3]


def left_in_all(script: str, place: str | None = None) -> tuple[int, int, bytes, float, float]:
    """The same, and seconds of training: before, and in all."""
    with tempfile.TemporaryFile() as file:
        file.truncate(SIZE)
        os.pwrite(file.fileno(), struct.pack("=qqqqdd", -1, 0, 0, 0, 0.0, 0.0), 0)
        found = os.fstat(file.fileno())
        own = f"{file.fileno()}:{found.st_dev}:{found.st_ino}"
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(REPO), "DISTRAIN_BLACK_BOX": place or own},
            pass_fds=[file.fileno()],
            check=True,
            timeout=60,
        )
        data = os.pread(file.fileno(), SIZE, 0)
    iteration, state, length = struct.unpack_from("=qqq", data)
    before, trained = struct.unpack_from("=dd", data, 32)
    return iteration, state, data[48 : 48 + length], before, trained


NOTE = """
import os
from distrain import black_box
assert black_box.is_open()
black_box.note(7)
black_box.enter(black_box.RUNNING)
black_box.report("cause")
black_box.report("consequence")
"""


TRAIN = """
from distrain import black_box
for before, trained in ((1.5, 4), (2, 5.25)):
    black_box.begin_training(before)
    black_box.end_training(trained)
"""


def test_seconds_of_all_trainers() -> None:
    assert left_in_all(TRAIN)[3:] == (3.5, 9.25)


def test_what_a_rank_leaves() -> None:
    assert left_by(NOTE) == (7, 1, b"cause")


def test_a_process_forked_by_the_rank_is_not_the_rank() -> None:
    script = """
import os
from distrain import black_box
if os.fork() == 0:
    assert not black_box.is_open()
    black_box.report("not the rank's")
    black_box.enter(black_box.LEFT)
    os._exit(0)
assert os.wait()[1] == 0
"""
    assert left_by(script) == (-1, 0, b"")


@pytest.mark.parametrize("place", ["0:1:2", "999:1:2"])
def test_a_file_that_is_not_the_box_is_left_alone(place: str) -> None:
    assert left_by("from distrain import black_box\nassert not black_box.is_open()\nblack_box.note(3)", place)[0] == -1


def test_a_report_that_is_too_long_keeps_its_beginning_and_its_end() -> None:
    _, _, text = left_by("from distrain import black_box\nblack_box.report('first ' + 'x' * 9000 + ' last')")
    assert text.startswith(b"first xxx")
    assert text.endswith(b"xxx last")
    assert len(text) == SIZE - 48 - ENTRIES


def test_without_the_launcher_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from distrain import black_box

    black_box.note(3)
    black_box.enter(black_box.RUNNING)
    black_box.report("nobody reads this")
    assert not black_box.is_open()
