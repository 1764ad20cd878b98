"""A training of which hosts vanish: `vanishing_suite.py OUT WAITS`.

In the first WAITS attempts all ranks stop five iterations after the start, and wait to be ended; each says so in a file
OUT/ready-ATTEMPT-RANK: its process, its keeper, its host. Rank 0 writes a digest of the weights to OUT/weights, and how
many ranks each attempt has, and where it begins, to OUT/begun.
"""

from __future__ import annotations

import hashlib
import os
import socket
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

out, waits = Path(sys.argv[1]), int(sys.argv[2])
comm, attempt = distrain.comm.world(), restart.attempt()
numbers = np.random.default_rng(5)
data = TupleDataset(numbers.random((90, 6), np.float32), numbers.integers(0, 3, 90).astype(np.int32))
model = L.Classifier(distrain.Sequential(L.Linear(6, 9), lambda x: F.dropout(F.relu(x), 0.3), L.Linear(9, 3)))
optimizer = optimizers.Adam().setup(model)
updater = training.StandardUpdater(SerialIterator(data, 8), optimizer)
trainer = training.Trainer(updater, (20, "iteration"), out=out)
begin: list[int] = []


def act(trainer: training.Trainer) -> None:
    iteration = trainer.updater.iteration
    if not begin:
        begin.append(iteration)
        if comm.rank == 0:
            with (out / "begun").open("a") as stream:
                stream.write(f"{comm.size}:{iteration} ")
    if attempt < waits and iteration == begin[0] + 5:
        path = out / f"ready-{attempt}-{comm.rank}"
        path.with_suffix(".new").write_text(f"{os.getpid()} {os.getppid()} {socket.gethostname()}")
        path.with_suffix(".new").rename(path)
        end = time.monotonic() + 100
        while time.monotonic() < end:
            time.sleep(0.05)


trainer.extend(act, call_before_training=True, priority=-200)
trainer.extend(extensions.snapshot(n_retains=2), trigger=(3, "iteration"))
trainer.run()
if comm.rank == 0:
    weights = b"".join(p.array.tobytes() for _, p in sorted(model.namedparams()))
    (out / "weights").write_text(hashlib.sha256(weights).hexdigest())
