from __future__ import annotations

import json
import os
import tracemalloc

import pytest

from distrain.errors import ArgumentError
from distrain.training.extensions import log as log_module
from distrain.training.extensions.log import Log


def entry(i: int) -> dict:
    return {"main/loss": 1 / (i + 1), "iteration": i}


def array(path) -> list:
    return json.loads(path.read_text())


def lines(path) -> list:
    return [json.loads(line) for line in (path.parent / f"{path.name}.jsonl").read_text().splitlines()]


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(log_module, "_RECENT", 10)


def test_reads_like_a_list_whatever_is_in_memory(tmp_path, short):
    log, expected = Log([entry(0)]), [entry(i) for i in range(57)]
    log.attach(str(tmp_path / "log"))
    for i in range(1, 57):
        log.append(entry(i))
    assert len(log) == 57
    assert len(log._recent) < 20
    assert list(log) == expected
    assert log == expected
    for i in (0, 3, 40, 56, -1, -57):
        assert log[i] == expected[i]
    for part in (slice(None), slice(50, None), slice(3, 5), slice(None, None, -7), slice(60, 70), slice(-1, None)):
        assert log[part] == expected[part]
    with pytest.raises(IndexError):
        log[57]
    assert json.loads(log.to_json()) == expected
    assert array(tmp_path / "log") == lines(tmp_path / "log") == expected


def test_an_empty_log(tmp_path):
    log = Log()
    log.attach(str(tmp_path / "log"))
    assert array(tmp_path / "log") == lines(tmp_path / "log") == list(log) == []
    log.append(entry(0))
    assert array(tmp_path / "log") == lines(tmp_path / "log") == [entry(0)]


def test_the_text_is_that_of_json(tmp_path):
    entries = [
        {"a": 1.5, "b": None, "c": True, "ä": "ö\n"}, {}, {"list": [1, {"x": 2.0}], "nan": float("nan"), "dict": {}}
    ]  # fmt: skip
    log = Log(entries[:1])
    log.attach(str(tmp_path / "log"))
    for one in entries[1:]:
        log.append(one)
    assert (tmp_path / "log").read_text() == json.dumps(entries, indent=4)


def test_appends_and_does_not_write_anew(tmp_path):
    log = Log()
    log.attach(str(tmp_path / "log"))
    log.append(entry(0))
    before = (tmp_path / "log").read_bytes()
    files = [os.stat(tmp_path / name).st_ino for name in ("log", "log.jsonl")]
    for i in range(1, 50):
        log.append(entry(i))
    assert (tmp_path / "log").read_bytes().startswith(before[:-2])
    assert [os.stat(tmp_path / name).st_ino for name in ("log", "log.jsonl")] == files


def test_another_file_gets_the_whole_log(tmp_path, short):
    log = Log()
    for name in ("a", "b"):
        log.attach(str(tmp_path / name))
        for i in range(len(log), len(log) + 30):
            log.append(entry(i))
    assert len(array(tmp_path / "a")) == 30
    assert array(tmp_path / "b") == lines(tmp_path / "b") == [entry(i) for i in range(60)]


@pytest.mark.parametrize("name", ["log", "log.jsonl"])
@pytest.mark.parametrize("harm", [os.unlink, lambda path: os.truncate(path, 9)])
def test_a_file_that_somebody_has_harmed_is_written_anew(tmp_path, name, harm):
    log = Log([entry(0), entry(1)])
    log.attach(str(tmp_path / "log"))
    harm(tmp_path / name)
    log.append(entry(2))
    log.append(entry(3))
    assert array(tmp_path / "log") == lines(tmp_path / "log") == [entry(i) for i in range(4)]


def test_what_is_gone_is_an_error(short):
    log = Log([entry(i) for i in range(40)])
    log.keep_recent()
    assert log[-1] == entry(39)
    with pytest.raises(ArgumentError, match=r"entries 0 … 29 .* rank 0 has them in its file"):
        log[3]


def test_memory_does_not_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "_RECENT", 500)
    log = Log()
    log.attach(str(tmp_path / "log"))
    held = []
    tracemalloc.start()
    try:
        for i in range(6000):
            log.append({"main/loss": i + 0.5, "main/accuracy": i + 0.25, "epoch": i, "iteration": i})
            if i % 2000 == 1999:
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[2] < 2 * held[0]  # three times as many entries
    assert held[2] < 2**20
    assert len(lines(tmp_path / "log")) == 6000
