"""A snapshot of Chainer 7.8.1, taken at iteration 30 of 45, is continued; tests/data/reference says how it was made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import distrain.functions as F
import distrain.links as L
from distrain import datasets, optimizers, serializers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

REFERENCE = Path(__file__).parents[1] / "data" / "reference"


class MLP(L.Chain):
    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(None, 50)
            self.l2 = L.Linear(None, 50)
            self.l3 = L.Linear(None, 10)

    def forward(self, x):
        return self.l3(F.relu(self.l2(F.relu(self.l1(x)))))


def make(out):
    """The training of the reference, and the list that it writes its losses to."""
    with np.load(Path(datasets.__file__).with_name("data") / "digits.npz") as digits:  # in the order of the file
        images, labels = digits["images"], digits["labels"]
    dataset = datasets.TupleDataset((images.reshape(-1, 64) / 16).astype(np.float32), labels.astype(np.int32))
    model = L.Classifier(MLP())
    updater = training.StandardUpdater(SerialIterator(dataset, 100, shuffle=False), optimizers.Adam().setup(model))
    trainer = training.Trainer(updater, (45, "iteration"), out=out)
    losses = []
    trainer.extend(extensions.LogReport(trigger=(15, "iteration")))
    trainer.extend(extensions.PrintReport(["epoch", "main/loss"]))
    trainer.extend(extensions.snapshot(), trigger=(30, "iteration"))
    trainer.extend(extensions.dump_graph("main/loss"))
    trainer.extend(lambda t: losses.append(float(t.observation["main/loss"])), name="losses", trigger=lambda t: True)
    return trainer, losses


def assert_as_recorded(trainer, losses):
    result = np.load(REFERENCE / "mlp_adam.result.npz")
    np.testing.assert_allclose(losses, result["losses"][-len(losses) :], rtol=1e-4)
    for path, param in trainer.updater.get_optimizer("main").target.namedparams():
        np.testing.assert_allclose(param.array, result[f"p{path}"], atol=1e-3, err_msg=path)
    log, expected = (
        json.loads(path.read_text()) for path in (Path(trainer.out) / "log", REFERENCE / "mlp_adam.log.json")
    )
    assert [list(entry) for entry in log] == [list(entry) for entry in expected]
    for entry, other in zip(log, expected, strict=True):
        assert [entry[key] for key in ("epoch", "iteration")] == [other[key] for key in ("epoch", "iteration")]
        assert entry["main/loss"] == pytest.approx(other["main/loss"], rel=1e-4)


def test_from_the_start(tmp_path):
    trainer, losses = make(tmp_path)
    serializers.load_npz(REFERENCE / "mlp_adam.init.npz", trainer.updater.get_optimizer("main").target)
    trainer.run()
    assert len(losses) == 45
    assert_as_recorded(trainer, losses)


def test_from_the_snapshot(tmp_path):
    trainer, losses = make(tmp_path)
    with pytest.warns(UserWarning, match="missing in the file, left as it is: 4\n.*iterator:main/"):
        serializers.load_npz(REFERENCE / "mlp_adam.snapshot_iter_30.npz", trainer)
    trainer.run()
    assert len(losses) == 15
    assert_as_recorded(trainer, losses)
    assert not (tmp_path / "cg.dot").exists()  # the graph was drawn before the snapshot
