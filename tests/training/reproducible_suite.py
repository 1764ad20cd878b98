"""Trains three models in reproducible mode: `reproducible_suite.py OUT FROM TO [sharded]`; prints digests of weights
and logs.

With FROM > 0 it goes on from the snapshots of iteration FROM in OUT; with "sharded" the optimizers' state is spread.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import numpy as np

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import training
from distrain.datasets import TupleDataset
from distrain.iterators import SerialIterator
from distrain.training import extensions

out, begin, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
comm = distrain.comm.world()
random = np.random.default_rng(5)
T = random.integers(0, 3, 203).astype(np.int32)


class CNN(distrain.Chain):
    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(None, 4, 3)
            self.norm = L.BatchNormalization(4)
            self.out = L.Linear(None, 3)

    def forward(self, x: Any) -> Any:
        h = F.max_pooling_2d(F.relu(self.norm(self.conv(x))), 2)
        return self.out(F.dropout(h, 0.3))


class Recurrent(distrain.Chain):
    """Keeps its state from minibatch to minibatch; some are shorter than others."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.embed = L.EmbedID(11, 6)
            self.lstm = L.LSTM(6, 7)
            self.out = L.Linear(7, 3)

    def forward(self, x: Any) -> Any:
        if not distrain.config.train or self.lstm.h is None or len(self.lstm.h) < len(x):
            self.lstm.reset_state()
        for t in range(x.shape[1]):
            h = self.lstm(self.embed(x[:, t]))
        return self.out(F.dropout(h, 0.2))


def models() -> Any:
    flat = random.normal(size=(203, 20)).astype(np.float32)
    yield "mlp", distrain.Sequential(L.Linear(20, 30), F.relu, F.dropout, L.Linear(30, 3)), flat, "Adam"
    yield "cnn", CNN(), random.normal(size=(203, 2, 8, 8)).astype(np.float32), "MomentumSGD"
    yield "lstm", Recurrent(), random.integers(0, 11, (203, 5)).astype(np.int32), "SGD"


distrain.set_seed(11)
for name, predictor, x, rule in models():
    model = L.Classifier(predictor)
    optimizer = getattr(distrain.optimizers, rule)()
    optimizer.setup(model)
    optimizer.shard_state(sys.argv[4:] == ["sharded"])
    if name == "cnn":
        optimizer.add_hook(distrain.optimizer_hooks.GradientClipping(1.0))
    train, test = TupleDataset(x[:180], T[:180]), TupleDataset(x[180:], T[180:])
    updater = training.StandardUpdater(SerialIterator(train, 42), optimizer)  # 42 over 8 shards, and a ragged end
    trainer = training.Trainer(updater, (end, "iteration"), out=f"{out}/{name}")
    evaluator = extensions.Evaluator(SerialIterator(test, 10, repeat=False, shuffle=False), model)
    trainer.extend(evaluator, trigger=(3, "iteration"))
    trainer.extend(extensions.LogReport(trigger=(3, "iteration")))
    trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
    if begin:
        distrain.serializers.load_npz(f"{out}/{name}/snapshot_iter_{begin}", trainer)
    trainer.run()
    weights = b"".join(p.array.tobytes() for p in model.params())
    others = b"".join(np.asarray(value).tobytes() for _, value in model.namedpersistents())
    digests = comm.allgather_obj([hashlib.sha256(data).hexdigest()[:16] for data in (weights, others)])
    assert digests.count(digests[0]) == comm.size, (name, digests)
    log = json.load(open(f"{out}/{name}/log"))
    for entry in log:
        del entry["elapsed_time"]
    assert "validation/main/accuracy" in log[-1]
    assert "main/loss" in log[-1]
    comm.print(name, *digests[0], hashlib.sha256(json.dumps(log).encode()).hexdigest()[:16])
