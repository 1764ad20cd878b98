"""Run on every rank: `exchange_suite.py N`; prints `<check> <number>` on rank 0, the same on any number of ranks."""

# ruff: noqa: PT017, PT018

from __future__ import annotations

import hashlib
import sys
import warnings

import numpy as np

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import minibatch, optimizers
from distrain.datasets import TupleDataset
from distrain.errors import WorldError
from distrain.iterators import SerialIterator

comm = distrain.comm.world()
assert comm.size == int(sys.argv[1])
random = np.random.default_rng(5)
X = random.normal(size=(1003, 8)).astype(np.float32)
T = random.integers(0, 3, 1003).astype(np.int32)


class MLP(distrain.Chain):
    def __init__(self, lazy=False):
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(None if lazy else 8, 12)
            self.l2 = L.Linear(None if lazy else 12, 3)

    def forward(self, x, t):
        return F.softmax_cross_entropy(self.l2(F.dropout(F.relu(self.l1(x)), 0.3)), t)


def digest(model):
    return hashlib.sha256(b"".join(p.array.tobytes() for p in model.params())).hexdigest()


def finish(name, model, losses):
    assert len(set(comm.allgather_obj(digest(model)))) == 1, name
    comm.print(name, *[repr(float(x)) for x in losses], float(sum(np.abs(p.array).sum() for p in model.params())))


def total(loss, share):
    return sum(comm.allgather_obj(float(loss.array) * share.weight))


def training_of(name, batch, steps, by_hand, lazy, samples=1003):
    distrain.set_seed(7)
    model = MLP(lazy)
    if not lazy:
        for p in model.params():  # other first weights everywhere but on rank 0
            p.array = p.array + np.float32(comm.rank)
    optimizer = optimizers.Adam(alpha=0.01).setup(model)
    assert optimizer.t == 0
    losses = []
    while len(losses) < steps:
        iterator = SerialIterator(TupleDataset(X[:samples], T[:samples]), batch, repeat=not by_hand, seed=len(losses))
        for examples in iterator:
            x, t = distrain.dataset.concat_examples(examples)
            kept = {}

            def loss_of(x, t, kept=kept):
                kept["loss"] = model(x, t)
                kept["value"] = kept["loss"].array.copy()
                return kept["loss"]

            if by_hand:
                loss = loss_of(x, t)
                model.cleargrads()
                loss.backward()
                optimizer.update()
            else:
                optimizer.update(loss_of, x, t)
            assert optimizer.t == len(losses) + 1
            value = float(kept["value"]) * minibatch.current().weight
            losses.append(sum(comm.allgather_obj(value)))
            if len(losses) == steps:
                break
    finish(name, model, losses)


training_of("updates-100", 100, 100, False, False)
training_of("hand-37", 37, 100, True, False)
training_of("lazy-37", 37, 60, False, True)
training_of("ragged-weight-0", 13, 30, True, False, samples=40)  # the last minibatch has one sample
training_of("ragged-lossfun", 13, 30, False, True, samples=40)


class Two(distrain.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.a, self.b, self.c = (distrain.Parameter(1.0, (2,)) for _ in range(3))
            self.scalar = distrain.Parameter(np.full((), comm.rank, np.float32))


minibatch.announce(None)  # the loops above were left in the middle

# Unused on one rank, unused on all.
model = Two()
optimizer = optimizers.MomentumSGD(lr=0.5, momentum=0.5).setup(model)
assert model.scalar.shape == ()
assert model.scalar.array == 0
for _ in range(2):
    model.cleargrads()
    model.a.grad = np.full(2, 1 + comm.rank, np.float32)
    if comm.rank == 0:
        model.b.grad = np.ones(2, np.float32)
    optimizer.update()
mean = (comm.size + 1) / 2
np.testing.assert_allclose(model.a.array, 1 - 0.5 * mean - 0.75 * mean, rtol=1e-6)
np.testing.assert_allclose(model.b.array, 1 - 1.25 / comm.size, rtol=1e-6)
np.testing.assert_array_equal(model.c.array, 1)
assert model.c.grad is None
assert model.c.update_rule.t == 0
assert len(set(comm.allgather_obj(digest(model)))) == 1

# What happens on one rank only and does not change the model: links made, the model moved and back.
if comm.rank == 0:
    MLP()
    for p in model.params():
        p.unbind()
model.cleargrads()
model.a.grad = np.zeros(2, np.float32)
optimizer.update()
assert len(set(comm.allgather_obj(digest(model)))) == 1

# An iterator of one's own: the mean over the ranks, not the sum.
model = L.Linear(1, 1, nobias=True, initialW=0)
optimizer = optimizers.SGD(lr=1.0).setup(model)
mine = SerialIterator(np.full((4, 1), 1.0 + comm.rank, np.float32), 2, comm=distrain.comm.local(), seed=0)
x = distrain.dataset.concat_examples(next(mine))
optimizer.update(lambda: F.sum(model(x)) / len(x))
np.testing.assert_allclose(model.W.array, -(1 + (comm.size - 1) / 2), rtol=1e-6)
minibatch.announce(None)

# Batch normalization: persistent values of rank 0, the numbers that are no arrays too.
norm = L.BatchNormalization(3)
norm.avg_mean[...] = comm.rank + 1
norm.N = comm.rank + 5
optimizers.SGD().setup(norm)
assert (norm.avg_mean == 1).all()
assert norm.N == 5

# Disagreement: refused on every rank alike.
if comm.size > 1:
    last = comm.size - 1
    try:
        optimizers.SGD().setup(L.Linear(2, 4 if comm.rank == last else 3))
    except WorldError as error:
        assert f"on rank {last}" in str(error) and "parameter /W" in str(error), error
    else:
        raise AssertionError("different shapes were accepted")
    odd = distrain.Chain()
    with odd.init_scope():
        odd.l1 = L.Linear(2, 2)
        if comm.rank == last:
            odd.extra = L.Linear(2, 2)
    try:
        optimizers.SGD().setup(odd)
    except WorldError as error:
        assert f"rank {last}" in str(error) and "/extra/W" in str(error), error
    else:
        raise AssertionError("different models were accepted")
    distrain.set_seed(1 + (comm.rank == last))
    try:
        optimizers.SGD().setup(L.Linear(2, 2))
    except WorldError as error:
        assert f"rank {last} has the seed 2" in str(error), error
    else:
        raise AssertionError("different seeds were accepted")
distrain.set_seed(1)

# An initializer with a generator of its own, in a parameter that gets its size in the first forward pass.
own = np.random.default_rng([comm.rank, 1])


def draw(array):
    array[...] = own.normal(size=array.shape)


model = L.Linear(None, 2, nobias=True, initialW=draw)
optimizer = optimizers.SGD(lr=0.0).setup(model)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    optimizer.update(lambda: F.sum(model(np.ones((1, 3), np.float32))))
mine = [str(w.message) for w in caught if "other first numbers" in str(w.message)]
assert len(mine) == (comm.rank > 0), [str(w.message) for w in caught]
np.testing.assert_array_equal(model.W.array, np.random.default_rng([0, 1]).normal(size=(2, 3)).astype(np.float32))

# A replaced parameter is agreed on again.
model = distrain.Chain()
with model.init_scope():
    model.head = L.Linear(2, 2)
optimizer = optimizers.SGD(lr=0.25).setup(model)
with model.init_scope():
    model.head = L.Linear(2, 2, initialW=float(comm.rank + 1))
for step in (1, 2):  # no minibatch is lost over it
    optimizer.update(lambda: F.sum(model.head(np.ones((1, 2), np.float32))))
    assert optimizer.t == step
    np.testing.assert_array_equal(model.head.W.array, 1 - 0.25 * step)
comm.barrier()
