from __future__ import annotations

import copy
import json
import time

import pytest

import distrain
from distrain import serializers
from distrain.training import extensions

KEYS = [f"time/{phase}" for phase in ("data", "forward", "backward", "update", "other", "extensions")]


def test_the_time_goes_where_it_was_spent(make_digits_trainer):
    trainer = make_digits_trainer((10, "iteration"), batch_size=4)
    iterator, optimizer = trainer.updater.get_iterator("main"), trainer.updater.get_optimizer("main")
    read, model = iterator._read, optimizer.target
    iterator._read = lambda planned: (time.sleep(0.01), read(planned))[1]
    trainer.updater.loss_func = lambda *args: (time.sleep(0.015), model(*args))[1]
    optimizer.add_hook(lambda optimizer: time.sleep(0.025), name="slow")
    core = trainer.updater.update_core
    trainer.updater.update_core = lambda: (core(), time.sleep(0.02))
    trainer.extend(extensions.Throughput(), trigger=(5, "iteration"))
    trainer.extend(lambda trainer: time.sleep(0.03), name="slow", priority=1)
    trainer.extend(extensions.LogReport(trigger=(5, "iteration")))
    trainer.extend(extensions.snapshot(), trigger=(5, "iteration"))
    start = time.perf_counter()
    trainer.run()
    seconds = time.perf_counter() - start
    _, entry = trainer.get_extension("LogReport").log
    least = {"data": 0.01, "forward": 0.015, "backward": 0, "update": 0.025, "other": 0.02, "extensions": 0.03}
    assert {phase for phase, limit in least.items() if entry[f"time/{phase}"] < limit} == set()
    assert sum(entry[key] for key in KEYS) <= seconds / 5
    assert entry["samples_per_second"] == pytest.approx(4 / sum(entry[key] for key in KEYS), rel=0.2)
    assert not any(key in entry for key in ("time/exchange", "time/hidden", "time/slowest"))
    assert "update" not in vars(trainer.updater)


def test_evaluations_are_no_part_of_the_steps(make_trainer):
    trainer = make_trainer((4, "iteration"), batch_size=4)
    iterator = trainer.updater.get_iterator("main")

    def look_at_the_data(trainer):
        other = copy.copy(iterator)
        read = other._read
        other._read = lambda planned: (time.sleep(0.05), read(planned))[1]
        next(other)

    trainer.extend(look_at_the_data, trigger=(1, "iteration"))
    trainer.extend(extensions.Throughput(), trigger=(4, "iteration"))
    trainer.extend(extensions.LogReport(trigger=(4, "iteration")))
    trainer.run()
    (entry,) = trainer.get_extension("LogReport").log
    assert entry["time/extensions"] >= 0.05 * 3 / 4
    assert entry["time/data"] < 0.05


def test_does_not_change_the_training(make_digits_trainer, tmp_path):
    def train(*extra, resume=None):
        distrain.set_seed(7)
        trainer = make_digits_trainer((6, "iteration"))
        for extension in extra:
            trainer.extend(extension, trigger=(2, "iteration"))
        trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
        if resume:
            serializers.load_npz(resume, trainer)
        trainer.run()
        return trainer.updater.get_optimizer("main").target.predictor.l1.W.array

    plain = train()
    assert (train(extensions.Throughput()) == plain).all()
    assert (train(extensions.Throughput(), resume=tmp_path / "result" / "snapshot_iter_4") == plain).all()


SCRIPT = """
import json, sys
import distrain.links as L
from distrain import comm, datasets, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

train = datasets.SubDataset(datasets.get_digits()[0], 0, 200)
optimizer = optimizers.SGD(0.1).setup(L.Classifier(L.Linear(64, 10)))
updater = training.StandardUpdater(SerialIterator(train, 50), optimizer)
trainer = training.Trainer(updater, (40, "iteration"), sys.argv[1])
trainer.extend(extensions.Throughput(), trigger=(20, "iteration"))
trainer.extend(extensions.LogReport(trigger=(20, "iteration")))
trainer.run()
entry = trainer.get_extension("LogReport").log[-1]
comm.world().print(json.dumps([entry["samples_per_second"], 20 * 50, trainer.elapsed_time]))
"""


@pytest.mark.mpi
def test_samples_are_those_of_the_job(run_ranks, tmp_path):
    for n in (1, 2):
        speed, samples, seconds = json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n))).check().stdout)
        assert speed > samples / seconds  # half of the training took less than all of it


SLOW = """
import json, sys, time
import distrain.links as L
from distrain import comm, datasets, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

model = L.Classifier(L.Linear(64, 10))
optimizer = optimizers.SGD(0.1).setup(model)
iterator = SerialIterator(datasets.get_digits()[0], 50)
slow = comm.world().rank == 1

def loss(x, t):
    time.sleep(0.03 * slow)
    return model(x, t)

updater = training.StandardUpdater(iterator, optimizer, loss_func=loss)
trainer = training.Trainer(updater, (10, "iteration"), sys.argv[1])
trainer.extend(extensions.Throughput(), trigger=(10, "iteration"))
trainer.extend(extensions.Trace(start=4, iterations=3))
trainer.run()
comm.world().print(json.dumps({k: float(v) for k, v in trainer.observation.items() if k.startswith("time/")}))
"""


@pytest.mark.mpi
def test_the_slowest_rank_is_named(run_ranks, tmp_path):
    seen = json.loads(run_ranks(SLOW, 2, str(tmp_path)).check().stdout)
    assert seen["time/slowest_rank"] == 1
    assert seen["time/slowest"] >= 0.03
    assert seen["time/exchange"] >= 0.02  # rank 0 waits for rank 1
    for rank in (0, 1):
        events = json.loads((tmp_path / "trace" / f"rank-{rank:03d}.json").read_text())["traceEvents"]
        forward = [event["dur"] for event in events if event["name"] == "forward"]
        assert len(forward) == 3
        assert (min(forward) >= 30e3) == (rank == 1)
