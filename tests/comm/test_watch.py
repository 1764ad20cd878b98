from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distrain.comm.watch import timeout_s
from distrain.errors import ArgumentError

# The last rank, or the first, does something else while the others exchange gradients, which nothing compares before.
SCRIPT = """
import os, signal, sys, time
import numpy as np
import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers

world = distrain.comm.world()
model = L.Linear(3, 2)
optimizer = optimizers.SGD().setup(model)
x = np.ones((2, 3), np.float32)
how, who = sys.argv[1], int(sys.argv[2]) % world.size
for _ in range(3):
    optimizer.update(lambda: F.sum(model(x)))
if world.rank == who:
    if how == "leave":
        raise SystemExit
    if how == "barrier":
        world.barrier()
    if how == "recv":
        world.recv((who + 1) % world.size)
    if how == "part":
        world.split(0).barrier()
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "sleep":
        time.sleep(4)
if how == "part" and world.rank != who:
    world.split(1)
optimizer.update(lambda: F.sum(model(x)))
if how not in ("sleep", "part"):
    time.sleep(60)
print("end", flush=True)
"""
EXCHANGE = "exchange 4 of gradients, sum of 11 float32 (File "


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("how", "who", "text"),
    [
        ("leave", "-1", "has come to the end of its script"),
        ("barrier", "0", "barrier (File "),
        ("recv", "1", "recv from rank 2"),
    ],
)
def test_ranks_that_wait_for_each_other_end_the_job(
    run_ranks: Callable[..., Any], mpi_python: str, how: str, who: str, text: str
) -> None:
    result = run_ranks(SCRIPT, 3, how, who, python=mpi_python, timeout=30)
    assert result.returncode == 1
    assert result.stderr.count("the ranks wait for each other") == 1, result.stderr
    assert text in result.stderr
    assert result.stderr.count(EXCHANGE) == 2
    assert result.seconds < 15


@pytest.mark.mpi
def test_ranks_that_wait_for_their_mates_are_left_alone(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    result = run_ranks(SCRIPT, 3, "part", "0", python=mpi_python, timeout=30).check()
    assert result.stderr == ""


@pytest.mark.mpi
def test_a_rank_that_takes_its_time_is_named(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    env = {"DISTRAIN_COLLECTIVE_TIMEOUT": "1.5"}
    result = run_ranks(SCRIPT, 3, "sleep", "1", python=mpi_python, timeout=30, env=env).check()
    assert result.stdout.count("end") == 3
    assert "ranks wait longer than 1.5 s" in result.stderr
    assert "rank 1 (" in result.stderr
    assert "script.py" in result.stderr
    assert "This is not the end yet" in result.stderr


@pytest.mark.mpi
@pytest.mark.parametrize("who", [0, 2])
def test_a_stopped_rank_ends_the_job(run_ranks: Callable[..., Any], who: int) -> None:
    env = {"DISTRAIN_COLLECTIVE_TIMEOUT": "1"}
    result = run_ranks(SCRIPT, 3, "stop", str(who), timeout=60, env=env)
    assert result.returncode != 0
    assert "it is stopped, or hangs outside of Python" in result.stderr
    assert f"rank {who} (" in result.stderr
    assert result.seconds < 40


@pytest.mark.mpi
def test_a_rank_that_never_comes_ends_the_job(run_ranks: Callable[..., Any]) -> None:
    script = SCRIPT.replace("time.sleep(4)", "time.sleep(60)")
    env = {"DISTRAIN_COLLECTIVE_TIMEOUT": "0.5"}
    result = run_ranks(script, 2, "sleep", "1", timeout=40, env=env)
    assert result.returncode == 1
    assert "The job ends." in result.stderr
    assert result.seconds < 30


LOOP = """
import os, signal, sys, threading, time
import numpy as np
from distrain import comm

world = comm.world()
x = np.ones(2**21)
who, delay = int(sys.argv[1]), float(sys.argv[2])
if world.rank == who:
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGSTOP)).start()
for step in range(10**6):
    world.bcast(x, step % world.size, out=x)
    world.channel.allreduce(x)
"""


@pytest.mark.mpi
@pytest.mark.parametrize(("who", "delay"), [(0, 1.0), (2, 1.1)])
def test_a_rank_that_is_stopped_inside_a_collective_ends_the_job(
    run_ranks: Callable[..., Any], mpi_python: str, who: int, delay: float
) -> None:
    env = {"DISTRAIN_COLLECTIVE_TIMEOUT": "1.5"}
    result = run_ranks(LOOP, 3, str(who), str(delay), timeout=60, python=mpi_python, env=env)
    assert result.returncode != 0
    assert "it is stopped, or hangs outside of Python" in result.stderr
    assert f"rank {who} (" in result.stderr
    assert re.search(r"for \d+ s: (bcast|exchange \d+ of gradients)|waits for (bcast|exchange)", result.stderr)
    assert result.stderr.count("script.py") >= 2  # where the others are, with their stacks
    assert result.seconds < 40


@pytest.mark.mpi
def test_the_launcher_says_who_came_to_what(mpi: Any, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "distrain_launch", "run", "-n", "3", str(script), "stop", "1"]
    result = mpi.run(command, timeout=60, env={"DISTRAIN_COLLECTIVE_TIMEOUT": "1.5", "CUDA_VISIBLE_DEVICES": ""})
    assert result.returncode == 1
    assert result.stderr.count("rank 1 (") == 1, result.stderr
    assert (
        "The job ends.\n"
        "The last collectives:\n"
        "  ranks 0, 2: in exchange 4 of gradients, sum of 11 float32, to which rank 1 did not come\n"
        "  rank 1: in none; the last was exchange 3 of gradients, sum of 11 float32, which ended "
    ) in result.stderr


@pytest.mark.mpi
def test_waits_that_are_usual_are_no_news(run_ranks: Callable[..., Any]) -> None:
    script = """
    import sys, time
    from distrain import comm
    world = comm.world()
    for _ in range(3):
        if world.rank == 1:
            time.sleep(2.5)
        world.barrier()
    world.allgather_obj(1)
    """
    result = run_ranks(script, 2, timeout=40, env={"DISTRAIN_COLLECTIVE_TIMEOUT": "1.5"}).check()
    assert result.stderr.count(": barrier (File ") == 1, result.stderr  # the first one only


def test_the_variable() -> None:
    assert timeout_s(None) == 30
    assert timeout_s("2.5") == 2.5
    for wrong in ("soon", "0", "-1", "nan", ""):
        with pytest.raises(ArgumentError, match="number of seconds"):
            timeout_s(wrong)
