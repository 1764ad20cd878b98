from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from distrain.errors import CorruptFileError, SerializationError
from distrain.results import Entries, read_entries
from distrain.training.extensions.log import Log


@pytest.mark.parametrize("limit", [1, 3, 4, 10])
def test_a_long_log_is_thinned_evenly_and_keeps_its_last_entry(limit: int) -> None:
    entries = Entries(limit)
    for i in range(100):
        entries.add({"i": i, **({"late": -i} if i >= 50 else {})})
        stride, kept = entries.stride, entries.columns["i"]
        assert kept == sorted({*range(0, i + 1, stride), i})
        assert min(limit, i + 1) <= len(kept) <= 2 * limit
        if i >= 50:
            assert entries.columns["late"] == [-j if j >= 50 else None for j in kept]
    assert entries.total == 100


@pytest.mark.parametrize("name", ["log", "log.jsonl"])
def test_what_a_log_has_written_is_read(tmp_path: Path, name: str) -> None:
    log = Log()
    log.attach(str(tmp_path / "log"))
    assert read_entries(tmp_path / name).problems == [f"{name} has no entry yet."]
    log.append({"loss": 0.5, "iteration": 1, "name": "a", "flag": True, "deep": [1]})
    log.append({"loss": math.nan, "iteration": 2, "lr": math.inf})
    log.append({"iteration": 10**400})
    found = read_entries(tmp_path / name)
    assert found.total == 3
    assert found.problems == []
    assert found.columns.keys() == {"loss", "iteration", "lr"}
    assert found.columns["loss"][0] == 0.5
    assert math.isnan(found.columns["loss"][1] or 0.0)
    assert found.columns["loss"][2] is None
    assert found.columns["lr"] == [None, math.inf, None]
    assert found.columns["iteration"] == [1, 2, math.inf]


@pytest.mark.parametrize("name", ["log", "log.jsonl"])
def test_a_log_that_is_cut_off_anywhere_gives_its_whole_entries(tmp_path: Path, name: str) -> None:
    log = Log()
    log.attach(str(tmp_path / "log"))
    for i in range(3):
        log.append({"loss": i + 0.25, "iteration": i})
    whole = (tmp_path / name).read_bytes()
    path = tmp_path / f"cut.{name}"
    totals = []
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = read_entries(path)
        assert found.columns.get("iteration", []) == list(range(found.total))
        totals.append(found.total)
        if found.total < 3 and name == "log":
            assert found.problems
    assert totals == sorted(totals)
    assert totals[-1] == 3


def test_damaged_lines_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\xfe\x00\n\n[1]\n{"a": 2}\n' + b"[" * 100_000 + b"\n" + b'{"a": 3}\n{"a"')
    found = read_entries(path)
    assert found.columns == {"a": [1, 2, 3]}
    assert found.problems == [
        "log.jsonl ends within an entry, in line 8; that entry is left out.",
        "log.jsonl: 3 damaged lines are left out: 2, 4, 6.",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [("log", "hello"), ("log", "{}"), ("log", "[1, 2]"), ("log", '"text"'), ("a.jsonl", "one\ntwo\n"), ("log", "\0\0")],
)
def test_what_is_no_log_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CorruptFileError, match=f"{name} is no log"):
        read_entries(tmp_path / name)


@pytest.mark.parametrize("name", ["log", "log.jsonl"])
def test_a_log_of_a_newer_version_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"format": 2, "entries": []}) + "\n")
    with pytest.raises(SerializationError, match=f"{name} has format 2, .* reads format 1"):
        read_entries(tmp_path / name)
