from __future__ import annotations

import json
import math

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers, serializers, training
from distrain.errors import ArgumentError


def weights(trainer) -> list:
    return [param.array for param in trainer.updater.get_optimizer("main").target.params()]


def model():
    net = distrain.Sequential(L.Linear(None, 20), L.BatchNormalization(20), F.relu, F.dropout, L.Linear(20, 10))
    return L.Classifier(net)


@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Adam])
@pytest.mark.parametrize("steps_before", [0, 4])
def test_the_training_that_follows_is_the_same(make_digits_trainer, make, steps_before):
    """Also where parameters have no size yet, and in the middle of an epoch."""
    attr = "alpha" if make is optimizers.Adam else "lr"

    def train(looks):
        distrain.set_seed(7)
        trainer = make_digits_trainer((9, "iteration"), model=model(), optimizer=make())
        for _ in range(steps_before):
            trainer.updater.update()
        if looks:
            found = training.find_learning_rate(trainer.updater, attr, 1e-4, 1.0, 8)
            assert len(found.rates) == 8
            assert getattr(trainer.updater.get_optimizer("main"), attr) == getattr(make(), attr)
            assert trainer.updater.iteration == steps_before
        trainer.run()
        return weights(trainer)

    for mine, theirs in zip(train(True), train(False), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_finds_a_rate_that_trains(make_digits_trainer, tmp_path):
    distrain.set_seed(3)
    trainer = make_digits_trainer((40, "iteration"), optimizer=optimizers.SGD(), samples=1000)
    found = training.find_learning_rate(trainer.updater, "lr", 1e-5, 1e4)
    assert len(found.rates) < 100  # it has blown up
    assert found.rates[0] == pytest.approx(1e-5)
    np.testing.assert_allclose(np.diff(np.log(found.rates)), math.log(1e9) / 99)
    assert 1e-2 < found.suggestion < 2
    found.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    losses = {}
    for lr in (found.suggestion, found.suggestion / 1000):
        distrain.set_seed(3)
        trainer = make_digits_trainer((40, "iteration"), optimizer=optimizers.SGD(lr), samples=1000)
        trainer.run()
        losses[lr] = float(trainer.observation["main/loss"])
    assert losses[found.suggestion] < 0.8 * losses[found.suggestion / 1000]


def test_bad_arguments(make_digits_trainer):
    updater = make_digits_trainer().updater
    with pytest.raises(ArgumentError, match="0 < low < high"):
        training.find_learning_rate(updater, "alpha", 1, 1)
    with pytest.raises(ArgumentError, match="looks at 'loss', but what the model reports is 'main/loss'"):
        training.find_learning_rate(updater, "alpha", key="loss")


SCRIPT = """
import json, sys
import distrain.links as L
from distrain import comm, datasets, optimizers, set_seed, training
from distrain.iterators import SerialIterator

set_seed(5)
train = datasets.SubDataset(datasets.get_digits()[0], 0, 203)
optimizer = optimizers.MomentumSGD(0.1).setup(L.Classifier(L.Linear(None, 10)))
updater = training.StandardUpdater(SerialIterator(train, 50), optimizer)
if sys.argv[2] == "sharded":
    optimizer.shard_state()
    updater.update()
found = training.find_learning_rate(updater, "lr", 1e-4, 1.0, 20)
everybody = comm.world().allgather_obj(found)
assert all(other == everybody[0] for other in everybody)
training.Trainer(updater, (3, "iteration"), sys.argv[1]).run()
comm.world().print(json.dumps([found.losses, float(abs(optimizer.target.predictor.W.array).sum())]))
"""


@pytest.mark.mpi
@pytest.mark.parametrize("state", ["whole", "sharded"])
def test_all_ranks_find_the_same(run_ranks, tmp_path, state):
    one, two = (json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n)), state).check().stdout) for n in (1, 2))
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4)
    assert two[1] == pytest.approx(one[1], rel=1e-5)


def test_a_snapshot_afterwards_is_that_of_a_training_that_never_looked(make_digits_trainer, tmp_path):
    distrain.set_seed(7)
    trainer = make_digits_trainer()
    trainer.updater.update()
    serializers.save_npz(tmp_path / "before", trainer.updater)
    training.find_learning_rate(trainer.updater, "alpha", steps=5)
    serializers.save_npz(tmp_path / "after", trainer.updater)
    with np.load(tmp_path / "before") as before, np.load(tmp_path / "after") as after:
        assert sorted(before) == sorted(after)
        for key in before:
            np.testing.assert_array_equal(before[key], after[key], err_msg=key)
