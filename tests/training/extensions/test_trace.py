from __future__ import annotations

import json
import threading

import pytest

from distrain.clock import Stretch, clock
from distrain.errors import ArgumentError
from distrain.training import extensions
from distrain.training.extensions.trace import trace_events


def recorded(trainer, folder="trace"):
    with open(f"{trainer.out}/{folder}/rank-000.json") as file:
        return json.load(file)["traceEvents"]


@pytest.mark.parametrize("start", [0, 3])
def test_records_the_iterations_that_were_asked_for(make_digits_trainer, start):
    trainer = make_digits_trainer((8, "iteration"), batch_size=4)
    trainer.extend(extensions.Trace(start=start, iterations=2))
    trainer.extend(lambda trainer: None, name="mine", trigger=(1, "iteration"))
    trainer.run()
    events = [event for event in recorded(trainer) if event["ph"] == "X"]
    names = [event["name"] for event in events]
    for phase in ("data", "forward", "backward", "update", "mine"):
        assert names.count(phase) == 2
    whole = [event for event in events if event["name"].startswith("iteration")]
    assert [event["name"] for event in whole] == [f"iteration {start + 1}", f"iteration {start + 2}"]
    for event in events:
        assert 0 <= event["ts"]
        assert event["ts"] + event["dur"] <= whole[-1]["ts"] + whole[-1]["dur"] + 1
    one = [e for e in events if whole[0]["ts"] <= e["ts"] < whole[1]["ts"] and e["name"] in ("data", "forward")]
    assert [event["name"] for event in one] == ["data", "forward"]
    assert clock.stretches is None


def test_a_training_that_ends_earlier_writes_nothing(make_trainer, tmp_path):
    trainer = make_trainer((4, "iteration"), batch_size=4)
    trainer.extend(extensions.Trace(start=2, iterations=5))
    trainer.run()
    assert not list(tmp_path.rglob("rank-*.json"))
    assert clock.stretches is None


def test_rows_are_threads():
    stretches = [Stretch("sending", 2.0, 2.5, 77), Stretch("a", 1.0, 2.0, threading.get_ident())]
    meta, *threads, first, second = trace_events(stretches, 1.0, 3)
    assert meta["args"] == {"name": "rank 3"}
    assert [row["args"]["name"] for row in threads] == ["training", "a thread"]
    assert (first["name"], first["tid"], first["ts"], first["dur"]) == ("a", 0, 0.0, 1e6)
    assert (second["name"], second["tid"], second["pid"]) == ("sending", 1, 3)


@pytest.mark.parametrize("given", [{"start": -1}, {"iterations": 0}])
def test_numbers_that_cannot_be(given):
    with pytest.raises(ArgumentError, match="a trace needs"):
        extensions.Trace(**given)
