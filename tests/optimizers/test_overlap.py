"""In a slow network a step takes the longer of computing and exchange, and a trace shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "overlap.py"


def both(events: list[dict[str, Any]], one: str, other: str) -> float:
    """Seconds in which one thing went on while the other did."""
    spans = {name: [(e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == name] for name in (one, other)}
    common = [min(b, d) - max(a, c) for a, b in spans[one] for c, d in spans[other]]
    return sum(length for length in common if length > 0) / 1e6


@pytest.mark.mpi
def test_a_slow_network_hides_behind_the_computing(
    run_ranks: Callable[..., Any], tmp_path: Path, mpi_python: str
) -> None:
    result = run_ranks(
        BENCHMARK, 2, "--work", "--out", str(tmp_path), "--json", str(tmp_path / "figures"), python=mpi_python
    ).check()
    assert result.stdout.count("a step takes") == 3
    direct, buckets, double = (
        json.loads((tmp_path / "figures").read_text())[how] for how in ("direct", "buckets", "double")
    )
    for seconds in (direct, buckets, double):
        assert seconds["computing"] >= 8 * 0.018
        assert seconds["sending"] >= (0 if seconds is double else 8 * 0.012)
    # One after the other; then all but the last bucket at the same time; then all of it. The machine may be busy.
    assert direct["iteration"] > direct["computing"] + 0.9 * direct["sending"]
    assert buckets["hidden"] > 0.4 * buckets["sending"]
    assert buckets["iteration"] < buckets["computing"] + 0.6 * buckets["sending"] + 0.02
    assert double["iteration"] < 1.15 * max(double["computing"], double["sending"]) + 0.02
    for how, hidden in (("direct", False), ("buckets", True)):
        for rank in range(2):
            trace = json.loads((tmp_path / how / "trace" / f"rank-{rank:03d}.json").read_text())["traceEvents"]
            names = {event["tid"]: event["args"]["name"] for event in trace if event["name"] == "thread_name"}
            sent = {names[event["tid"]] for event in trace if event["name"] == "sending"}
            assert sent == ({"distrain gradients"} if hidden else {"training"})
            events = [event for event in trace if event["ph"] == "X"]
            assert (both(events, "sending", "backward") > 4 * 5 * 0.012) == hidden
