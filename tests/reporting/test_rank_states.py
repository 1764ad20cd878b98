from __future__ import annotations

import json
import time

import pytest

from distrain.reporting import RankState
from distrain.reporting.rank_states import PHASES, RankStates, StatesFile

MEMBERS = [("a", 11), ("b", 22), ("b", 33)]


def test_before_anything_is_heard_all_run():
    states = RankStates(MEMBERS, iteration=7).all()
    assert [(s.rank, s.host, s.pid, s.iteration, s.phase, s.state) for s in states] == [
        (0, "a", 11, 7, "start", "running"), (1, "b", 22, 7, "start", "running"), (2, "b", 33, 7, "start", "running"),
    ]  # fmt: skip


def test_a_heartbeat_changes_one_rank():
    states, before = RankStates(MEMBERS), time.time()
    states.beat(1, 5, "update", [1, 2, 3, 4, 5], 0.0)
    assert states.all()[1].time == dict(zip(PHASES, [1, 2, 3, 4, 5], strict=True))
    states.beat(1, 5, "validation", [], 0.0)
    found = states.all()
    assert (found[1].iteration, found[1].phase) == (5, "validation")
    assert found[1].time["data"] == 1, "the last split stays where there is no new one"
    assert before <= found[1].seen <= time.time()
    assert found[0].iteration == found[2].iteration == 0


def test_silence(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    states = RankStates(MEMBERS)
    states.beat(0, 1, "update", [], 0.0)
    states.beat(1, 1, "update", [], 60.0)
    states.end(2, 1)
    for later, expected in [(4.9, ["running", "running"]), (5.1, ["silent", "running"]), (60.1, ["silent", "silent"])]:
        monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
        assert [s.state for s in states.all()] == [*expected, "done"]
    states.beat(0, 2, "update", [], 0.0)
    assert states.all()[0].state == "running"


def test_the_first_word_about_an_end_counts():
    states = RankStates(MEMBERS)
    states.end(1, 5, "ValueError: no")
    states.end(1, 6)
    states.beat(1, 7, "update", [], 0.0)
    states.end(2, 8)
    found = states.all()
    assert (found[1].state, found[1].iteration, found[1].failure) == ("failed", 5, "ValueError: no")
    assert (found[2].state, found[2].iteration, found[2].failure) == ("done", 8, None)


def test_the_file(tmp_path):
    states = RankStates(MEMBERS)
    states.beat(1, 5, "update", [0.5, 1, 2, 3, 4], 0.0)
    states.end(2, 5, "KeyError: 'x'")
    states.counters.late = 3
    states.write(tmp_path / "ranks.json")
    found = json.loads((tmp_path / "ranks.json").read_text())
    assert list(found) == ["time", "world", "channel", "ranks"]
    assert (found["world"], found["channel"]["late"]) == (3, 3)
    assert [RankState(**one) for one in found["ranks"]] == states.all()
    assert found["ranks"][1]["time"] == {"data": 0.5, "forward": 1, "backward": 2, "exchange": 3, "update": 4}


def test_a_file_that_is_there_is_replaced_at_once_and_else_after_a_second(tmp_path, monkeypatch):
    now, path = time.monotonic(), tmp_path / "ranks.json"
    monkeypatch.setattr(time, "monotonic", lambda: now)
    file = StatesFile(RankStates(MEMBERS), str(path), at_once=False)
    assert file.wait_s() == pytest.approx(1.0)
    file.finish()
    assert not path.exists(), "a training that was over within a second"
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.5)
    file.finish()
    assert path.exists()
    file = StatesFile(RankStates(MEMBERS), str(path), at_once=False)
    assert file.wait_s() <= 0
    file.write()
    assert file.wait_s() == pytest.approx(1.0)
    assert StatesFile(RankStates(MEMBERS), str(tmp_path / "other"), at_once=True).wait_s() <= 0


def test_what_a_killed_training_has_left_is_removed(tmp_path):
    (tmp_path / ".ranks.json.0123.tmp").write_text("{")
    (tmp_path / ".log.0123.tmp").write_text("{")
    StatesFile(RankStates(MEMBERS), str(tmp_path / "ranks.json"), at_once=False)
    assert [path.name for path in tmp_path.iterdir()] == [".log.0123.tmp"]


def test_a_file_that_cannot_be_written_is_a_problem_and_no_error(tmp_path):
    file = StatesFile(RankStates(MEMBERS), str(tmp_path / "gone" / "ranks.json"), at_once=True)
    file.write()
    assert "gone/ranks.json cannot be written: No such file or directory" in file.problem
    (tmp_path / "gone").mkdir()
    file.write()
    assert file.problem == ""
