from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = ["-m", "distrain_launch", "bench", "comm"]
TINY = ["--sizes", "1K,16K", "--rounds", "2"]
MODEL = ["--gradient-bytes", "8000", "--step-seconds", "0.01"]


@pytest.mark.mpi
def test_two_ranks_measure_and_predict(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    done = mpi.run([mpi_python, *BENCH, "-n", "2", *TINY, *MODEL, "--json", str(path)]).check()
    assert "2 ranks on 1 node" in done.stdout.splitlines()[0]
    for row in (r"1 KiB +\d", r"8000 B +\d", r"16 KiB +\d", "exchange = ", "α = ", "2  ", "4096  "):
        assert re.search(f"^ *{row}", done.stdout, re.MULTILINE), done.stdout
    found = json.loads(path.read_text())
    assert (found["ranks"], found["nodes"], found["rounds"]) == (2, 1, 2)
    assert [one["nbytes"] for one in found["timings"]] == [1024, 8000, 16384]
    assert all(
        one[way] > 0 for one in found["timings"] for way in ("exchange_s", "allreduce_s", "hierarchical_s", "raw_s")
    )
    assert found["link"] == {"alpha_s": found["line"]["latency_s"], "beta_s": found["line"]["byte_s"]}
    assert found["prediction"]["cluster"]["ranks_per_node"] == 2
    assert len(found["prediction"]["steps"]) == 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["comm", "-n", "1"], ["distrain: -n 1: one rank has nobody to send to", "-n 2"]),
        (["comm", "-n", "x"], ["distrain bench: error", "invalid int value: 'x'"]),
        (["comm", "-n", "2", "--sizes", "1K"], ["distrain bench comm: error", "two different sizes"]),
        (["comm", "--mpiexec", "/no/such", *TINY, "-n", "2"], ["/no/such"]),
        (["disk"], ["invalid choice: 'disk'"]),
        ([], ["required: what"]),
    ],
)
def test_what_cannot_work_is_said_once(mpi: Any, arguments: list[str], words: list[str]) -> None:
    done = mpi.run([sys.executable, *BENCH[:3], *arguments])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error") <= 1
    for word in words:
        assert word in done.stderr


def test_help_names_the_options_of_both(mpi: Any) -> None:
    shown = mpi.run([sys.executable, *BENCH, "--help"]).check().stdout
    for option in ("-n N", "--mpiexec", "--sizes", "--gradient-bytes", "--step-seconds", "--between", "--json"):
        assert option in shown
    assert "--check" not in shown
