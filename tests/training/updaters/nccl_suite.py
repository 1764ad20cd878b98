"""Trains on some devices, with CuPy or the stand-in: `nccl_suite.py DEVICES DTYPE [FAULT]`.

DEVICES are a JSON list. Prints which way the gradients went, whether an unused parameter has none, and the weights.
With the FAULT "forward" a worker raises in the third step.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import backend, optimizers
from distrain.iterators import SerialIterator
from distrain.training import MultiprocessParallelUpdater

FAULT = sys.argv[3] if len(sys.argv) > 3 else ""


class Net(L.Chain):
    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.main, self.steps = os.getpid(), 0
        with self.init_scope(), distrain.using_config("dtype", np.dtype(dtype).type):
            self.used = L.Linear(4, 3, initialW=0.5)
            self.unused = L.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        self.steps += 1
        if FAULT == "forward" and self.steps == 3 and os.getpid() != self.main:
            raise ValueError("the cause")
        return F.mean(self.used(x) ** 2)


def train(devices: list[Any], dtype: str) -> None:
    x = np.random.default_rng(1).normal(size=(20 * len(devices), 4)).astype(dtype)
    iterators = [SerialIterator(x[20 * i : 20 * i + 20], 4 + i, seed=1) for i in range(len(devices))]
    optimizer = optimizers.MomentumSGD(0.1).setup(Net(dtype))
    updater = MultiprocessParallelUpdater(iterators, optimizer, devices=devices)
    try:
        for _ in range(5):
            updater.update()
        way = type(updater._sums).__name__
    finally:
        updater.finalize()
    model = optimizer.target
    weights = backend.to_cpu(model.used.W.array).tolist()
    print(json.dumps([way, model.unused.W.grad is None, weights]), flush=True)


if __name__ == "__main__":
    train(json.loads(sys.argv[1]), sys.argv[2])
