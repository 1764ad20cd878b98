from __future__ import annotations

import json

import numpy as np
import pytest

import distrain
from distrain import optimizers
from distrain.errors import ArgumentError
from distrain.training import extensions

KEYS = ["main/grad_norm", "main/param_norm", "main/update_ratio"]


def test_norms_of_a_step(make_digits_trainer):
    trainer = make_digits_trainer((6, "iteration"), optimizer=optimizers.SGD(0.1))
    optimizer = trainer.updater.get_optimizer("main")
    optimizer.add_hook(distrain.optimizer_hooks.GradientClipping(0.01))
    trainer.extend(extensions.GradientReport(3))
    seen, weights = [], []

    def look(trainer):
        seen.append({key: trainer.observation[key] for key in KEYS if key in trainer.observation})
        weights.append(np.concatenate([p.array.ravel() for p in optimizer.target.params()]).astype(float))

    trainer.extend(look)
    trainer.run()
    assert [len(values) for values in seen] == [0, 0, 3, 0, 0, 3]
    for i in (2, 5):
        change = np.linalg.norm(weights[i] - weights[i - 1])
        before = np.linalg.norm(weights[i - 1])
        assert seen[i]["main/param_norm"] == pytest.approx(before, rel=1e-5)
        assert seen[i]["main/update_ratio"] == pytest.approx(change / before, rel=1e-3)
        assert change == pytest.approx(0.1 * 0.01, rel=1e-3)  # clipped
        assert seen[i]["main/grad_norm"] > 0.02  # before it was clipped
    assert not [name for name in optimizer.hooks if "GradientReport" in name]


def test_the_interval_is_a_number():
    with pytest.raises(ArgumentError, match="a positive number of iterations, not 0"):
        extensions.GradientReport(0)


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
trainer = training.Trainer(updater, (4, "iteration"), sys.argv[1])
trainer.extend(extensions.GradientReport(2))
trainer.extend(extensions.LogReport(trigger=(2, "iteration")))
trainer.run()
keys = ("main/grad_norm", "main/param_norm", "main/update_ratio")
comm.world().print(json.dumps([[e[key] for key in keys] for e in trainer.get_extension("LogReport").log]))
"""


@pytest.mark.mpi
def test_the_gradient_is_that_of_the_job(run_ranks, tmp_path):
    one, two = (json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n))).check().stdout) for n in (1, 2))
    np.testing.assert_allclose(two, one, rtol=1e-4)
