from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distrain.results import read_run
from distrain.results.ranks import read_ranks


def read(tmp_path: Path, text: str) -> tuple[Any, list[str]]:
    (tmp_path / "ranks.json").write_text(text)
    problems: list[str] = []
    return read_ranks(tmp_path / "ranks.json", problems), problems


def test_what_rank_0_writes(growing: Any) -> None:
    run = growing("run")
    ranks = [run.rank(1, "done"), run.rank(0, "failed", failure="ValueError: x")]
    run.ranks(*ranks)
    found = read_run(run.log(1)).ranks
    assert found is not None
    assert found["world"] == 2
    assert found["ranks"] == [ranks[1], ranks[0]]


def test_without_the_file(growing: Any) -> None:
    assert read_run(growing("run").log(1)).ranks is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "cannot be read"), ("[]", 'has no list "ranks"'), ('{"ranks": 3}', 'has no list "ranks"'), ("[" * 9999, "")],
)
def test_damaged_files(tmp_path: Path, text: str, problem: str) -> None:
    found, problems = read(tmp_path, text)
    assert found is None
    assert problem in problems[0]


def test_odd_values_become_such_as_a_page_can_show(tmp_path: Path) -> None:
    odd = {
        "rank": "x",
        "host": None,
        "pid": 1e999,
        "iteration": True,
        "seen": 10**400,
        "state": "?",
        "time": {"data": "a"},
    }
    found, problems = read(tmp_path, json.dumps({"ranks": [odd, 3, {}]}))
    assert problems == []
    assert json.dumps(found, allow_nan=False)
    assert found["ranks"][0]["state"] == "silent"
    assert found["ranks"][0]["time"] == dict.fromkeys(("data", "forward", "backward", "exchange", "update"), 0.0)
    assert [one["pid"] for one in found["ranks"]] == [0, 0]
