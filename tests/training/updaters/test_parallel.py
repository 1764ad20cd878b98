from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
import distrain.links as L
from distrain import datasets, optimizers, training
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator

DEVICES = {"main": "cpu:0", "second": "cpu:1", "third": "cpu:2"}


class Normalized(L.Chain):
    """A layer with running statistics, and parameters that get their size late."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.hidden = L.Linear(None, 6)
            self.norm = L.BatchNormalization(6)
            self.out = L.Linear(None, 10)

    def forward(self, x):
        return self.out(F.relu(self.norm(self.hidden(x))))


class Plain(L.Chain):
    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.hidden = L.Linear(None, 6)
            self.out = L.Linear(None, 10)

    def forward(self, x):
        return self.out(F.relu(self.hidden(x)))


def train(model, digits, tmp_path, devices=None, batch_size=20, samples=47, steps=5, **kwargs):
    optimizer = optimizers.MomentumSGD(0.05).setup(model)
    iterator = SerialIterator(datasets.SubDataset(digits[0], 0, samples), batch_size, seed=1)
    if devices is None:
        updater = training.StandardUpdater(iterator, optimizer, **kwargs)
    else:
        updater = training.ParallelUpdater(iterator, optimizer, devices=devices, **kwargs)
    trainer = training.Trainer(updater, (steps, "iteration"), out=tmp_path)
    losses = []
    trainer.extend(
        lambda t: losses.append([float(t.observation[f"main/{key}"]) for key in ("loss", "accuracy")]), name="l"
    )
    trainer.run()
    return updater, losses


def initialised(digits, kind=Plain):
    model = L.Classifier(kind())
    model(np.stack([digits[0][i][0] for i in range(2)]), np.zeros(2, np.int32))
    return model


@pytest.mark.parametrize("batch_size", [20, 7, 2, 1])
def test_trains_as_one_device_does(digits, tmp_path, batch_size):
    model = initialised(digits)
    twin = model.copy("copy")
    _, expected = train(model, digits, tmp_path, batch_size=batch_size)
    updater, losses = train(twin, digits, tmp_path, DEVICES, batch_size=batch_size)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for (path, param), (_, other) in zip(model.namedparams(), twin.namedparams(), strict=True):
        np.testing.assert_allclose(other.array, param.array, rtol=1e-4, atol=1e-6, err_msg=path)
    assert updater.iteration == 5


def test_the_copies_stay_equal_and_running_statistics_are_kept(digits, tmp_path):
    model = L.Classifier(Normalized())
    start = model.predictor.norm.avg_mean.copy()
    updater, _ = train(model, digits, tmp_path, DEVICES)
    assert np.abs(model.predictor.norm.avg_mean - start).max() > 1e-3
    for copy in updater._models.values():
        for (path, param), (_, other) in zip(model.namedparams(), copy.namedparams(), strict=True):
            np.testing.assert_array_equal(other.array, param.array, err_msg=path)
        np.testing.assert_array_equal(copy.predictor.norm.avg_mean, model.predictor.norm.avg_mean)
        np.testing.assert_array_equal(copy.predictor.norm.avg_var, model.predictor.norm.avg_var)


def test_each_device_computes_its_part(digits, tmp_path):
    sizes = []

    def converter(batch, device):
        sizes.append((len(batch), device))
        return training.updaters.standard.concat_examples(batch, device)

    train(initialised(digits), digits, tmp_path, DEVICES, batch_size=5, steps=1, converter=converter)
    train(initialised(digits), digits, tmp_path, DEVICES, batch_size=2, steps=1, converter=converter)
    assert sizes == [(2, "cpu:0"), (2, "cpu:1"), (1, "cpu:2"), (1, "cpu:0"), (1, "cpu:1")]


def test_loss_scale(digits, tmp_path):
    model = initialised(digits)
    twin = model.copy("copy")
    _, expected = train(model, digits, tmp_path)
    _, losses = train(twin, digits, tmp_path, DEVICES, loss_scale=256.0)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_models_of_the_users_own(digits, tmp_path):
    model = initialised(digits)
    optimizer = optimizers.SGD().setup(model)
    iterator = SerialIterator(digits[0], 10, seed=1)
    copy = model.copy("copy")
    updater = training.ParallelUpdater(iterator, optimizer, models={"main": model, "twin": copy})
    updater.update()
    np.testing.assert_array_equal(copy.predictor.out.W.array, model.predictor.out.W.array)
    with pytest.raises(ArgumentError, match="must be the model of the optimizer"):
        training.ParallelUpdater(iterator, optimizer, models={"main": copy, "twin": model})


def test_devices_are_required(digits):
    optimizer = optimizers.SGD().setup(initialised(digits))
    iterator = SerialIterator(digits[0], 10)
    with pytest.raises(ArgumentError, match="needs devices"):
        training.ParallelUpdater(iterator, optimizer)
    with pytest.raises(ArgumentError, match="must be called 'main'; the names are 'a', 'b'"):
        training.ParallelUpdater(iterator, optimizer, devices={"a": "cpu:0", "b": "cpu:1"})
    with pytest.raises(ArgumentError, match="but devices has"):
        training.ParallelUpdater(iterator, optimizer, models={"main": optimizer.target}, devices=DEVICES)


@pytest.mark.mpi
def test_several_devices_on_several_ranks(run_ranks, tmp_path):
    script = """
import sys
import numpy as np
import distrain.links as L
from distrain import comm, datasets, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

train, _ = datasets.get_digits()
model = L.Classifier(L.Linear(64, 10, initialW=0))
iterator = SerialIterator(datasets.SubDataset(train, 0, 50), 7, seed=1)
updater = training.ParallelUpdater(iterator, optimizers.SGD(0.1).setup(model), devices={"main": "cpu:0", "b": "cpu:1"})
trainer = training.Trainer(updater, (9, "iteration"), out=sys.argv[1])
trainer.extend(extensions.LogReport(trigger=(9, "iteration")))
trainer.run()
mine = trainer.get_extension("LogReport").log[-1]["main/loss"], float(np.abs(model.predictor.W.array).sum())
everyones = comm.world().allgather_obj(mine)
if comm.world().rank == 0:
    print(*[f"{loss} {weights}" for loss, weights in everyones], sep="\\n")
"""
    numbers = []
    for n in (1, 3):
        out = run_ranks(script, n, str(tmp_path)).check().stdout
        numbers += [[float(word) for word in line.split()] for line in out.splitlines()]
    assert len(numbers) == 4
    np.testing.assert_allclose(numbers, numbers[:1] * 4, rtol=1e-5)
