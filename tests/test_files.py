"""Files are whole or not there."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from distrain.files import atomic_write

REPO = Path(__file__).resolve().parents[1]


def test_the_name_appears_with_the_whole_file(tmp_path):
    path = tmp_path / "f"
    with atomic_write(path) as stream:
        stream.write(b"abc")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["f"]


def test_an_older_file_is_replaced_at_the_end(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with atomic_write(str(path)) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_relative_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with atomic_write("f") as stream:
        stream.write(b"abc")
    assert Path("f").read_bytes() == b"abc"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_kept(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "f") as stream:
            stream.write(b"abc")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail():
        with atomic_write(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "no" / "f"):
        pass


def test_sigkill_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from distrain.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as stream:\n"
        "    stream.write(b'x' * 100000); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=env, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    with atomic_write(path) as stream:  # what the dead process left is in nobody's way
        stream.write(b"new")
    assert path.read_bytes() == b"new"
