from __future__ import annotations

import json

import pytest

from distrain import serializers, training
from distrain.training import extensions


def make(make_trainer, last=6):
    @training.make_extension(priority=training.PRIORITY_WRITER)
    def observe(trainer):
        i = trainer.updater.iteration
        if i != 2:
            trainer.observation.update(hits=i * i, trials=i + 1)

    trainer = make_trainer((last, "iteration"))
    trainer.extend(observe)
    trainer.extend(extensions.MicroAverage("hits", "trials", "rate", (3, "iteration")))
    trainer.extend(extensions.LogReport(trigger=(3, "iteration")))
    trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
    return trainer


EXPECTED = [(1 + 9) / (2 + 4), (16 + 25 + 36) / (5 + 6 + 7)]


def test_divides_the_sums_of_an_interval(make_trainer):
    trainer = make(make_trainer)
    trainer.run()
    assert [entry["rate"] for entry in trainer.get_extension("LogReport").log] == pytest.approx(EXPECTED)


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_continues_across_a_resume(make_trainer, tmp_path, at):
    make(make_trainer).run()
    resumed = make(make_trainer)
    serializers.load_npz(tmp_path / "result" / f"snapshot_iter_{at}", resumed)
    resumed.run()
    assert [entry["rate"] for entry in resumed.get_extension("LogReport").log] == pytest.approx(EXPECTED)


def test_an_interval_without_trials_has_no_quotient(make_trainer):
    trainer = make_trainer((2, "iteration"))
    trainer.extend(extensions.MicroAverage("hits", "trials", "rate", (1, "iteration")))
    trainer.extend(lambda trainer: seen.append(dict(trainer.observation)), name="look")
    seen: list[dict] = []
    trainer.run()
    assert seen == [{}, {}]


SCRIPT = """
import json, sys
import distrain.links as L
from distrain import comm, datasets, optimizers, report, serializers, set_seed, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

class Counter(L.Classifier):
    def forward(self, x, t):
        loss = super().forward(x, t)
        report({"hits": int((self.y.array.argmax(1) == t).sum()), "trials": len(t)}, self)
        return loss

set_seed(5)
train = datasets.SubDataset(datasets.get_digits()[0], 0, 203)
model = Counter(L.Linear(64, 10))
optimizer = optimizers.SGD(0.5).setup(model)
trainer = training.Trainer(training.StandardUpdater(SerialIterator(train, 2), optimizer), (9, "iteration"), sys.argv[1])
trainer.extend(extensions.MicroAverage("main/hits", "main/trials", "rate", (3, "iteration")))
trainer.extend(extensions.LogReport(["rate", "main/accuracy"], trigger=(3, "iteration")))
trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
if len(sys.argv) > 2:
    serializers.load_npz(sys.argv[2], trainer)
trainer.run()
comm.world().print(json.dumps([(e["rate"], e["main/accuracy"]) for e in trainer.get_extension("LogReport").log]))
"""


@pytest.mark.mpi
def test_adds_up_over_ranks_also_those_without_samples(run_ranks, tmp_path):
    quiet = {"PYTHONWARNINGS": "ignore"}
    logs = [
        json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n)), env=quiet).check().stdout)
        for n in (1, 3)
    ]  # fmt: skip
    resumed = run_ranks(SCRIPT, 1, str(tmp_path / "resumed"), str(tmp_path / "3" / "snapshot_iter_4")).check()
    for log in (*logs, json.loads(resumed.stdout)):
        assert log == [pytest.approx(entry, rel=1e-6) for entry in logs[0]]
        assert [rate for rate, _ in log] == pytest.approx([accuracy for _, accuracy in log], rel=1e-6)
