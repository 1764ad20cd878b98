from __future__ import annotations

import json
from pathlib import Path

import pytest

from distrain.errors import ArgumentError, SerializationError
from distrain.results import read_run


def test_a_result_folder_is_read(trained: list[Path]) -> None:
    run = read_run(trained[1])
    assert (run.name, run.log, run.problems) == ("units 4", "log.jsonl", [])
    assert run.entries.columns["iteration"] == [3, 6, 9, 12]
    assert run.entries.columns["epoch"] == [1, 2, 3, 4]
    assert run.entries.columns.keys() >= {"main/loss", "validation/main/accuracy", "elapsed_time"}
    assert [start["iteration"] for start in run.starts] == [0, 6]
    assert [one.iteration for one in run.snapshots] == [3, 6, 9, 12]
    assert all(one.nbytes == (trained[1] / one.name).stat().st_size for one in run.snapshots)
    assert run.graph is not None
    assert "Linear" in run.graph


def test_a_log_is_read_by_its_own_name_too(trained: list[Path], tmp_path: Path) -> None:
    assert read_run(trained[1] / "log", "a name").log == "log.jsonl"
    (tmp_path / "losses").write_text("[]")
    run = read_run(tmp_path / "losses")
    assert (run.name, run.log, run.entries.total, run.graph) == (tmp_path.name, "losses", 0, None)


def test_a_folder_without_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no folder .*nowhere"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(SerializationError, match="cannot be read"):
        read_run("a" * 5000)
    with pytest.raises(ArgumentError, match="neither log.jsonl nor log.*/NAME"):
        read_run(tmp_path)
    (tmp_path / "losses.jsonl").write_text("")
    with pytest.raises(ArgumentError, match=r"if it is one of losses.jsonl: distrain report .*/losses.jsonl"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"starts": [', "run.json cannot be read: Expecting value"),
        ("[" * 100_000, "run.json cannot be read: maximum recursion"),
        ("[]", 'run.json has no list "starts"'),
        ('{"starts": {}}', 'run.json has no list "starts"'),
    ],
)
def test_a_damaged_record_is_a_problem_and_no_error(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "log").write_text('[{"loss": 1}]')
    (tmp_path / "run.json").write_text(text)
    run = read_run(tmp_path)
    assert run.starts == []
    assert problem in run.problems[0]


def test_a_record_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("[]")
    (tmp_path / "run.json").write_text(json.dumps({"format": 2, "starts": []}))
    with pytest.raises(SerializationError, match=r"run.json has format 2"):
        read_run(tmp_path)


def test_a_huge_graph_and_odd_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("[]")
    (tmp_path / "cg.dot").write_bytes(b"x" * (1 << 21))
    (tmp_path / "snapshot_iter_1").symlink_to(tmp_path / "gone")
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshot_best").write_bytes(b"123")
    run = read_run(tmp_path)
    assert run.graph is None
    assert any("cg.dot is left out" in one for one in run.problems)
    assert [(one.name, one.nbytes, one.iteration) for one in run.snapshots] == [("snapshot_best", 3, None)]
