from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distrain.errors import ArgumentError
from distrain.results import read_entries
from distrain.results.follow import Followed, Tail, follow


def test_a_log_that_grows_is_read_as_far_as_it_is_whole(growing: Any) -> None:
    run = growing("run")
    path = run.log(3, cut='{"main/l') / "log.jsonl"
    tail = Tail(path)
    assert tail.look().columns["iteration"] == [1, 2, 3]
    with open(path, "a") as stream:
        stream.write('oss": 7, "iteration": 4}\n\nbad\n{"iteration": 5}\n')
    entries = tail.look()
    assert entries.columns["main/loss"] == [1, 1 / 2, 1 / 3, 7, None]
    assert entries.problems == ["log.jsonl: 1 damaged lines are left out: 6."]
    assert tail.look() is entries


def test_the_same_as_reading_it_at_once_also_when_it_is_thinned(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.touch()
    tail = Tail(path, limit=10)
    assert tail.look().problems == ["log.jsonl has no entry yet."]
    for i in range(173):
        with open(path, "a") as stream:
            stream.write(json.dumps({"iteration": i, "loss": 1 / (i + 1)}) + "\n")
        if i % 7 == 0:
            assert tail.look() == read_entries(path, 10)


@pytest.mark.parametrize("way", ["replaced", "shorter", "written over"])
def test_a_log_that_is_written_anew(growing: Any, way: str) -> None:
    run = growing("run")
    path = run.log(4) / "log.jsonl"
    tail = Tail(path)
    tail.look()
    text = '{"iteration": 9, "main/loss": 5}\n' * (40 if way == "written over" else 2)
    if way == "replaced":
        (path.parent / "new").write_text(text * 99)
        os.replace(path.parent / "new", path)
    else:
        path.write_text(text)
    assert set(tail.look().columns["main/loss"]) == {5}


def test_versions_tell_what_is_new(growing: Any) -> None:
    run = growing("run")
    followed = Followed(run.folder, "run")
    followed.look()
    seen = [followed.version]
    for change in (
        lambda: None,
        lambda: run.log(1),
        lambda: run.ranks(run.rank(0)),
        lambda: (run.folder / "snapshot_iter_1").write_bytes(b"x"),
        lambda: (run.folder / "cg.dot").write_text("digraph {}"),
        lambda: (run.folder / "unrelated").write_text(""),
    ):
        change()
        followed.look()
        seen.append(followed.version)
    assert seen == [1, 1, 2, 2, 3, 4, 4]
    assert followed.run.graph == "digraph {}"
    assert followed.ranks is not None


def test_a_log_by_its_name_and_an_array(growing: Any, tmp_path: Path) -> None:
    run = growing("run")
    os.rename(run.log(2) / "log.jsonl", run.folder / "losses.jsonl")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "log").write_text('[{"iteration": 1}]')
    first, second = follow([run.folder / "losses.jsonl", tmp_path / "old"])
    for one in (first, second):
        one.look()
    assert (first.run.name, first.run.log, first.run.entries.total) == ("run", "losses.jsonl", 2)
    assert (second.run.log, second.run.entries.total) == ("log", 1)


def test_files_of_a_newer_version_are_a_problem_and_no_error(growing: Any) -> None:
    run = growing("run")
    (run.log(1) / "run.json").write_text('{"format": 2}')
    followed = Followed(run.folder, "run")
    followed.look()
    assert "Install a newer distrain" in followed.run.problems[0]


def test_places_that_cannot_be_followed(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="there is no folder"):
        follow([tmp_path / "none"])
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ArgumentError, match="is given 2 times"):
        follow([tmp_path, tmp_path / "link"])


def test_names_that_are_alike(tmp_path: Path) -> None:
    for name in ("a/result", "b/result", "c"):
        (tmp_path / name).mkdir(parents=True)
    found = follow([tmp_path / "a/result", tmp_path / "b/result", tmp_path / "c"])
    assert [one.run.name for one in found] == [str(tmp_path / "a/result"), str(tmp_path / "b/result"), "c"]
