"""Real trainings, small enough for tests."""

from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
import distrain.links as L
from distrain import datasets, optimizers, training
from distrain.iterators import SerialIterator


class MLP(L.Chain):
    def __init__(self, units: int = 20) -> None:
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(None, units)
            self.l2 = L.Linear(None, 10)

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))


class CountingUpdater(training.StandardUpdater):
    """Takes minibatches and leaves the model alone: for tests of what surrounds the steps."""

    def update_core(self) -> None:
        next(self.get_iterator("main"))


@pytest.fixture(scope="session")
def digits():
    train, test = datasets.get_digits()
    return train, test


@pytest.fixture
def make_trainer(tmp_path):
    """A trainer of an updater that only counts."""

    def make(stop=(3, "iteration"), samples=10, batch_size=1, out=None, updater=CountingUpdater):
        optimizer = optimizers.SGD().setup(L.Linear(2, 1))
        iterator = SerialIterator(np.zeros((samples, 2), np.float32), batch_size, shuffle=False, seed=0)
        return training.Trainer(updater(iterator, optimizer), stop, out=tmp_path / "result" if out is None else out)

    return make


@pytest.fixture
def make_digits_trainer(tmp_path, digits):
    """A trainer that really trains; its updater's model is `trainer.updater.get_optimizer("main").target`."""

    def make(stop=(5, "iteration"), batch_size=100, out=None, samples=300, model=None, optimizer=None):
        model = L.Classifier(MLP()) if model is None else model
        optimizer = (optimizers.Adam() if optimizer is None else optimizer).setup(model)
        train = datasets.SubDataset(digits[0], 0, samples)
        updater = training.StandardUpdater(SerialIterator(train, batch_size, seed=3), optimizer)
        return training.Trainer(updater, stop, out=tmp_path / "result" if out is None else out)

    return make
