from __future__ import annotations

import json
import time

import pytest

import distrain
from distrain import serializers
from distrain.training import extensions

KEYS = ["time/data", "time/update", "time/extensions"]


def test_the_time_goes_where_it_was_spent(make_trainer):
    trainer = make_trainer((10, "iteration"), batch_size=4)
    iterator = trainer.updater.get_iterator("main")
    read = type(iterator).__next__

    class Slow(type(iterator)):
        def __next__(self):
            time.sleep(0.01)
            return read(self)

    iterator.__class__ = Slow
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
    assert entry["time/data"] >= 0.01
    assert entry["time/update"] >= 0.02
    assert entry["time/extensions"] >= 0.03
    assert sum(entry[key] for key in KEYS) <= seconds / 5
    assert entry["samples_per_second"] == pytest.approx(4 / sum(entry[key] for key in KEYS), rel=0.2)
    assert trainer.updater.get_iterator("main") is iterator
    assert "update" not in vars(trainer.updater)


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
