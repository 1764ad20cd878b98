from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from distrain import serializers, training
from distrain.errors import MismatchError, SerializationError
from distrain.training import extensions


def observe(trainer, values):
    """Makes a trainer observe one value after the other."""

    @training.make_extension(priority=training.PRIORITY_WRITER)
    def write(trainer):
        trainer.observation.update(values[trainer.updater.iteration - 1])

    trainer.extend(write)


def read(trainer) -> list:
    with open(f"{trainer.out}/log") as stream:
        return json.load(stream)


def test_writes_the_means_of_each_interval(make_trainer):
    trainer = make_trainer((4, "iteration"), samples=3)
    observe(trainer, [{"a": 1.0}, {"a": 2.0, "b": 5}, {"a": 3.0}, {"a": 5.0}])
    trainer.extend(extensions.LogReport(trigger=(2, "iteration")))
    trainer.run()
    log = read(trainer)
    assert log == trainer.get_extension("LogReport").log
    assert [list(entry) for entry in log] == [
        ["a", "b", "epoch", "iteration", "elapsed_time"], ["a", "epoch", "iteration", "elapsed_time"],
    ]  # fmt: skip
    assert [(entry["a"], entry["epoch"], entry["iteration"]) for entry in log] == [(1.5, 0, 2), (4.0, 1, 4)]
    assert 0 < log[0]["elapsed_time"] <= log[1]["elapsed_time"]


def test_text_of_the_file(make_trainer):
    trainer = make_trainer((1, "iteration"))
    observe(trainer, [{"main/loss": 0.5}])
    trainer.extend(extensions.LogReport(trigger=(1, "iteration"), postprocess=lambda entry: entry.pop("elapsed_time")))
    trainer.run()
    with open(f"{trainer.out}/log") as stream:
        assert (
            stream.read()
            == '[\n    {\n        "main/loss": 0.5,\n        "epoch": 0,\n        "iteration": 1\n    }\n]'
        )


def test_an_entry_is_in_both_files_at_once(make_trainer):
    seen = []

    def look(trainer):
        with open(f"{trainer.out}/log.jsonl") as stream:
            seen.append((read(trainer), [json.loads(line) for line in stream]))

    trainer = make_trainer((3, "epoch"), samples=2)
    trainer.extend(extensions.LogReport())
    trainer.extend(look, trigger=(1, "epoch"))
    trainer.run()
    log = list(trainer.get_extension("LogReport").log)
    assert seen == [(log[:n], log[:n]) for n in (1, 2, 3)]


def test_keys_and_file_name(make_trainer, tmp_path):
    trainer = make_trainer((2, "iteration"), samples=1)
    observe(trainer, [{"a": 1, "b": 2}, {"a": 3, "b": 4}])
    trainer.extend(extensions.LogReport(["b", "c"], filename="log_{epoch}"))
    trainer.extend(extensions.LogReport(log_name="named", trigger=(1, "iteration")))
    trainer.extend(extensions.LogReport(filename=None))
    trainer.run()
    assert sorted(path.name for path in (tmp_path / "result").iterdir()) == [
        f"{name}{ending}" for name in ("log_1", "log_2", "named") for ending in ("", ".jsonl")
    ]
    assert [entry["b"] for entry in json.loads((tmp_path / "result" / "log_2").read_text())] == [2, 4]
    assert "a" not in trainer.get_extension("LogReport").log[0]


def test_each_file_of_a_name_that_changes_is_complete(make_trainer, tmp_path):
    trainer = make_trainer((5, "iteration"), samples=2)
    trainer.extend(extensions.LogReport(filename="log_{epoch}", trigger=(1, "iteration")))
    trainer.run()
    lengths = [len(json.loads((tmp_path / "result" / f"log_{epoch}").read_text())) for epoch in range(3)]
    assert lengths == [1, 3, 5]


def test_strings_and_arrays_are_left_out(make_trainer):
    import numpy as np

    trainer = make_trainer((1, "iteration"))
    observe(trainer, [{"word": "x", "vector": np.ones(3), "number": np.float32(0.25)}])
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    trainer.run()
    assert list(read(trainer)[0]) == ["number", "epoch", "iteration", "elapsed_time"]


@pytest.mark.parametrize("resumed_at", [1, 2, 3, 4, 5, 6])
def test_continues_after_a_resume_without_a_wrong_line(make_trainer, tmp_path, resumed_at):
    values = [{"a": 2.0**i} for i in range(7)]

    def make(iterations):
        trainer = make_trainer((iterations, "iteration"), samples=4)
        observe(trainer, values)
        trainer.extend(extensions.LogReport(trigger=(3, "iteration")))
        return trainer

    whole = make(7)
    whole.extend(extensions.snapshot(), trigger=(1, "iteration"))
    whole.run()
    resumed = make(7)
    serializers.load_npz(tmp_path / "result" / f"snapshot_iter_{resumed_at}", resumed)
    resumed.run()
    expected, found = whole.get_extension("LogReport").log, read(resumed)
    for entry in [*expected, *found]:
        del entry["elapsed_time"]
    assert found == expected
    assert [entry["a"] for entry in found] == [7 / 3, 56 / 3]


def test_an_empty_log_of_an_old_file_is_an_empty_log():
    import numpy as np

    report = extensions.LogReport()
    arrays = {
        "_trigger/previous_iteration": np.array(0), "_trigger/previous_epoch_detail": np.array(0.0),
        "_summary/_names": np.array("[]"), "_log": np.array(""),
    }  # fmt: skip
    serializers.NpzDeserializer(arrays).load(report)
    assert report.log == []
    arrays["_log"] = np.array('{"not": "a list"}')
    with pytest.raises(SerializationError, match="no JSON array but a dict"):
        serializers.NpzDeserializer(arrays).load(report)
    del arrays["_log"]
    with pytest.raises(MismatchError, match="_log"):
        serializers.NpzDeserializer(arrays).load(report)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_warns_once_of_a_number_that_is_none(make_trainer, bad):
    trainer = make_trainer((6, "iteration"))
    observe(trainer, [{"main/loss": 1.0}, {"main/loss": bad}, *[{"main/loss": bad, "b": 1}] * 4])
    trainer.extend(extensions.LogReport(trigger=(3, "iteration")))
    with pytest.warns(UserWarning, match="main/loss: NaN or infinite in iteration 2; this is not said again") as caught:
        trainer.run()
    assert len(caught) == 1


ENDLESS = """
import sys
from distrain import links, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

class Updater(training.StandardUpdater):
    def update_core(self):
        next(self.get_iterator("main"))

optimizer = optimizers.SGD().setup(links.Linear(2, 1))
trainer = training.Trainer(Updater(SerialIterator([0, 1, 2, 3], 1), optimizer), None, out=sys.argv[1])
trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
trainer.run()
"""


def test_a_killed_training_leaves_files_that_can_be_read(tmp_path):
    """An entry is one write: either there or not."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    for i in range(3):
        out = tmp_path / str(i)
        child = subprocess.Popen([sys.executable, script, out])
        end = time.monotonic() + 60
        while not (out / "log").exists() or (out / "log").stat().st_size < 20_000:
            assert time.monotonic() < end
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        log = json.loads((out / "log").read_text())
        assert log == lines[: len(log)]
        assert len(lines) - len(log) <= 1
        assert [entry["iteration"] for entry in lines] == list(range(1, len(lines) + 1))


def test_a_resumed_training_mends_what_a_crash_has_left(make_trainer, tmp_path):
    def make():
        trainer = make_trainer((4, "iteration"))
        trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
        trainer.extend(extensions.snapshot(), trigger=(2, "iteration"))
        return trainer

    make().run()
    os.truncate(tmp_path / "result" / "log", 77)
    os.truncate(tmp_path / "result" / "log.jsonl", 77)
    trainer = make()
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_2", trainer)
    trainer.run()
    assert [entry["iteration"] for entry in read(trainer)] == [1, 2, 3, 4]


SCRIPT = """
import json, sys
import numpy as np
import distrain.functions as F
import distrain.links as L
from distrain import comm, datasets, optimizers, serializers, set_seed, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

class MLP(L.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(None, 20)
            self.l2 = L.Linear(None, 10)

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))

set_seed(5)
train, test = datasets.get_digits()
train, test = datasets.SubDataset(train, 0, 203), datasets.SubDataset(test, 0, 101)
model = L.Classifier(MLP())
optimizer = optimizers.Adam().setup(model)
updater = training.StandardUpdater(SerialIterator(train, 50), optimizer)
trainer = training.Trainer(updater, (10, "iteration"), out=sys.argv[1])
trainer.extend(extensions.Evaluator(SerialIterator(test, 33, repeat=False, shuffle=False), model))
trainer.extend(extensions.LogReport(trigger=(3, "iteration")))
trainer.extend(extensions.observe_lr())
trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
if len(sys.argv) > 2:
    serializers.load_npz(sys.argv[2], trainer)
trainer.run()
logs = comm.world().allgather_obj(trainer.get_extension("LogReport").log)
assert all(log == logs[0] for log in logs)
"""


def assert_close(found, expected):
    assert len(found) == len(expected) > 0
    for entry, other in zip(found, expected, strict=True):
        assert entry.keys() == other.keys()
        for key in entry.keys() - {"elapsed_time"}:
            assert entry[key] == pytest.approx(other[key], rel=1e-5), key


@pytest.mark.mpi
def test_the_log_is_the_same_on_any_number_of_ranks(run_ranks, tmp_path):
    logs = []
    for n in (1, 2, 3, 4):
        run_ranks(SCRIPT, n, str(tmp_path / str(n))).check()
        logs.append(json.loads((tmp_path / str(n) / "log").read_text()))
    assert {"main/loss", "main/accuracy", "validation/main/loss"} <= logs[0][1].keys()
    for log in logs[1:]:
        assert_close(log, logs[0])


@pytest.mark.mpi
def test_a_rank_without_a_sample_counts_nothing(run_ranks, tmp_path):
    script = SCRIPT.replace("SerialIterator(train, 50)", "SerialIterator(train, 2)")
    assert script != SCRIPT
    for n in (1, 4):
        run_ranks(script, n, str(tmp_path / str(n)), env={"PYTHONWARNINGS": "ignore"}).check()
    assert_close(*(json.loads((tmp_path / n / "log").read_text()) for n in ("4", "1")))


@pytest.mark.mpi
def test_a_snapshot_within_an_interval_has_the_sums_of_all_ranks(run_ranks, tmp_path):
    run_ranks(SCRIPT, 2, str(tmp_path / "whole")).check()
    for n in (1, 3):
        run_ranks(SCRIPT, n, str(tmp_path / str(n)), str(tmp_path / "whole" / "snapshot_iter_5")).check()
        expected = json.loads((tmp_path / "whole" / "log").read_text())
        assert_close(json.loads((tmp_path / str(n) / "log").read_text()), expected)
