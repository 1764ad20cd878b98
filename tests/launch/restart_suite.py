"""A training that fails in ways that are told: `restart_suite.py OUT LAST HOW`.

    kill     in each attempt a rank kills itself some iterations after the last snapshot; which one and when depends on
             the number of the attempt
    same     iteration 5 fails with the same exception in each attempt
    other    iteration 5 fails with another exception in each attempt
    fail     after four iterations, with another exception in each attempt
    import   nothing is ever trained
    slow     the first attempt takes its time
    stop     the first attempt gets SIGUSR1
    well     nothing happens

Rank 0 writes a digest of the weights to OUT/weights, and appends to OUT/begun at which iteration each attempt begins.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers, restart, training
from distrain.datasets import TupleDataset
from distrain.iterators import SerialIterator
from distrain.training import extensions

out, last, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
comm = distrain.comm.world()
attempt = restart.attempt()
if how == "import" and comm.rank == 1:
    raise ImportError("no module of that name")
numbers = np.random.default_rng(5)
data = TupleDataset(numbers.random((90, 6), np.float32), numbers.integers(0, 3, 90).astype(np.int32))
model = L.Classifier(distrain.Sequential(L.Linear(6, 9), lambda x: F.dropout(F.relu(x), 0.3), L.Linear(9, 3)))
optimizer = optimizers.Adam().setup(model)
updater = training.StandardUpdater(SerialIterator(data, 8), optimizer)
trainer = training.Trainer(updater, (last, "iteration"), out=out)
chance = random.Random(attempt)
victim, at = chance.randrange(comm.size), chance.randrange(6, 13)
begin: list[int] = []


def act(trainer: training.Trainer) -> None:
    iteration = trainer.updater.iteration
    if not begin:
        begin.append(iteration)
        if comm.rank == 0:
            with Path(out, "begun").open("a") as stream:
                stream.write(f"{iteration} ")
    if how == "kill" and attempt < 3 and comm.rank == victim and iteration == begin[0] + at:
        os.kill(os.getpid(), signal.SIGKILL)
    if how in ("same", "other") and comm.rank == 1 and iteration == 5:
        raise ValueError(f"the cause{attempt if how == 'other' else ''}")
    if how == "slow" and attempt == 0:
        time.sleep(0.1)
    if how == "fail" and comm.rank == 1 and iteration == begin[0] + 4:
        raise ValueError(f"the cause {attempt}")
    if how == "stop" and attempt == 0 and iteration == 7 and comm.rank == 1:
        os.kill(os.getpid(), signal.SIGUSR1)


trainer.extend(act, call_before_training=True, priority=-200)
trainer.extend(extensions.LogReport(trigger=(5, "iteration")))
trainer.extend(extensions.RunRecord())
trainer.extend(extensions.snapshot(n_retains=2), trigger=(3, "iteration"))
trainer.run()
if comm.rank == 0:
    weights = b"".join(p.array.tobytes() for _, p in sorted(model.namedparams()))
    Path(out, "weights").write_text(hashlib.sha256(weights).hexdigest())
