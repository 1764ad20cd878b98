"""The short form of `make kills`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.mpi
def test_ranks_that_are_killed_at_any_moment_change_no_bit(mpi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command = [sys.executable, "-m", "benchmarks.kills", "--seconds", "6", "--every", "2"]
    done = mpi.run(command, timeout=100, env={"CUDA_VISIBLE_DEVICES": ""}).check()
    assert re.match(r"\d+ kills in .* s, [1-9]\d* restarts, [1-9]\d* iterations\neffective time: ", done.stdout)
    assert done.stdout.endswith(": the same\n")
