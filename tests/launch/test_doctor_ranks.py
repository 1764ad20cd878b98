from __future__ import annotations

from typing import Any

import pytest

from distrain_launch.doctor_ranks import read

RANK = {"host": "node07", "pid": 4711, "device": "CPU", "cores": [0, 1], "nodes": [1], "threads": 1}
WORLD = {"size": 2, "launcher": "hydra", "has_watch": True, "ranks": [RANK, {**RANK, "threads": 2}]}
ALLREDUCE = {"nbytes": 2**23, "seconds": 0.01, "after_start_s": 1.24, "wrong": []}
CLOCK = {"difference_s": -3e-6, "round_trip_s": 8e-6}
FEEDERS = {"seconds": [0.5, 0.25], "is_right": True}


@pytest.mark.parametrize(
    ("told", "level", "words"),
    [
        (
            {"world": WORLD},
            "ok",
            "2 ranks, started by hydra\nrank 0 on node07 (pid 4711), CPU, 2 processors of NUMA node 1",
        ),
        ({"world": {**WORLD, "has_watch": False}}, "warning", "2 ranks"),
        ({"allreduce": ALLREDUCE}, "ok", "8 MiB in 10.0 ms, 839 MB/s; the sum is right"),
        ({"allreduce": {**ALLREDUCE, "seconds": 1.0}}, "warning", "8 MB/s; the sum is right"),
        ({"allreduce": {**ALLREDUCE, "wrong": [1]}}, "problem", "wrong numbers on ranks [1]"),
        ({"clock": CLOCK}, "ok", "-3 µs between the ranks, ± 4 µs"),
        ({"clock": {**CLOCK, "difference_s": 2.0}}, "warning", "+2000000 µs between"),
        ({"side channel": {"is_open": True, "missing": []}}, "ok", "came from all ranks"),
        ({"side channel": {"is_open": False, "missing": []}}, "warning", "not open"),
        ({"side channel": {"is_open": True, "missing": [1]}}, "warning", "nothing came from ranks [1]"),
        ({"feeders": FEEDERS}, "ok", "its first minibatch after 0.50 s; it is right"),
        ({"feeders": {**FEEDERS, "is_right": False}}, "problem", "it was a wrong one"),
    ],
)
def test_read(told: dict[str, Any], level: str, words: str) -> None:
    *_, found = read(told)
    assert found.level == level
    assert words in found.found


def test_start_is_told() -> None:
    start, _ = read({"allreduce": ALLREDUCE})
    assert start.found.startswith("1.2 s from `distrain run`")
    assert list(read({})) == []
