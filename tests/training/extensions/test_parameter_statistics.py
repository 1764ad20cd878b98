from __future__ import annotations

import json

import numpy as np
import pytest

from distrain.errors import ArgumentError
from distrain.training import extensions

EACH = (1, "iteration")


def train(make_digits_trainer, make, last=2):
    """The log's last entry, and the model."""
    trainer = make_digits_trainer((last, "iteration"))
    model = trainer.updater.get_optimizer("main").target
    trainer.extend(make(model), trigger=EACH)
    trainer.extend(extensions.LogReport(trigger=EACH))
    trainer.run()
    return trainer.get_extension("LogReport").log[-1], model


def test_reports_statistics_of_values_and_gradients(make_digits_trainer):
    entry, model = train(make_digits_trainer, extensions.ParameterStatistics)
    W = model.predictor.l2.W
    for kind, x in (("data", W.array), ("grad", W.grad)):
        name = f"predictor/l2/W/{kind}"
        expected = {"mean": x.mean(), "std": x.std(), "min": x.min(), "max": x.max(), "zeros": (x == 0).sum()}
        for key, value in expected.items():
            assert entry[f"{name}/{key}"] == pytest.approx(float(value)), key
        for i, percent in enumerate((0.13, 2.28, 15.87, 50, 84.13, 97.72, 99.87)):
            assert entry[f"{name}/percentile/{i}"] == pytest.approx(float(np.percentile(x, percent)), abs=1e-6)
    assert len([key for key in entry if key.startswith("predictor/")]) == 4 * 2 * (5 + 7)


def test_chosen_links_and_statistics(make_digits_trainer):
    def make(model):
        statistics = {"norm": lambda x: float((x * x).sum() ** 0.5)}
        extension = extensions.ParameterStatistics(
            [model.predictor.l1, model.predictor.l2], statistics, report_grads=False, prefix="my"
        )
        extension.register_statistics("size", lambda x: x.size)
        return extension

    entry, model = train(make_digits_trainer, make)
    names = [f"my/{link}/{p}/data/{s}" for link in ("l1", "l2") for p in ("W", "b") for s in ("norm", "size")]
    assert [key for key in entry if key.startswith("my/")] == names
    assert entry["my/l1/b/data/size"] == 20
    assert entry["my/l2/W/data/norm"] == pytest.approx(float(np.linalg.norm(model.predictor.l2.W.array)), rel=1e-6)


def test_values_can_be_changed_before_they_are_reported(make_digits_trainer):
    class Short(extensions.ParameterStatistics):
        def post_process(self, stats):
            for key in list(stats):
                stats[key.replace("predictor/", "")] = stats.pop(key)

    entry, _ = train(make_digits_trainer, lambda model: Short(model, {"mean": lambda x: x.mean()}))
    assert "l1/W/grad/mean" in entry


def test_parameters_with_nan_are_left_out_if_asked(make_trainer):
    trainer = make_trainer((1, "iteration"))
    link = trainer.updater.get_optimizer("main").target
    link.b.array[...] = np.nan
    trainer.extend(
        extensions.ParameterStatistics(link, {"mean": lambda x: x.mean()}, skip_nan_params=True), trigger=EACH
    )
    trainer.run()
    assert list(trainer.observation) == ["W/data/mean"]


def test_unknown_statistics_are_refused(make_trainer):
    with pytest.raises(ArgumentError, match="functions by name or 'default', not 'all'"):
        extensions.ParameterStatistics(make_trainer().updater.get_optimizer("main").target, "all")


SCRIPT = """
import json, sys
import distrain.links as L
from distrain import comm, datasets, optimizers, set_seed, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

set_seed(5)
train = datasets.SubDataset(datasets.get_digits()[0], 0, 203)
optimizer = optimizers.SGD(0.1).setup(L.Classifier(L.Linear(64, 10)))
updater = training.StandardUpdater(SerialIterator(train, 50), optimizer)
trainer = training.Trainer(updater, (2, "iteration"), sys.argv[1])
trainer.extend(extensions.ParameterStatistics(optimizer.target), trigger=(1, "iteration"))
trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
trainer.run()
entry = {key: value for key, value in trainer.get_extension("LogReport").log[-1].items() if key != "elapsed_time"}
comm.world().print(json.dumps(entry))
"""


@pytest.mark.mpi
def test_gradients_are_those_of_the_job(run_ranks, tmp_path):
    one, two = (json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n))).check().stdout) for n in (1, 2))
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert two[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
