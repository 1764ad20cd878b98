"""A training in which ranks get signals: `stopping_suite.py OUT LAST VICTIM SIGNAL AT [WORD…]`.

VICTIM is a rank, "all" or "none"; it sends itself the SIGNAL in iteration AT. Words change the training. Each rank
writes OUT/rank-<rank>-<n>, n counting its files: exit code, iteration, digest of the weights.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import distrain
import distrain.links as L
from distrain import optimizers, training
from distrain.datasets import TupleDataset
from distrain.iterators import MultiprocessIterator, SerialIterator
from distrain.training import extensions, triggers

out, last, victim, name, at, *words = sys.argv[1:]
comm = distrain.comm.world()
random = np.random.default_rng(5)
data = TupleDataset(random.random((64, 6), np.float32), random.integers(0, 3, 64).astype(np.int32))


class Counting(training.StandardUpdater):
    """Exchanges nothing."""

    def update_core(self) -> None:
        next(self.get_iterator("main"))


model = L.Classifier(L.Linear(6, 3))
optimizer = optimizers.Adam().setup(model)
iterator: Any = SerialIterator(data, 8)
if "processes" in words:
    iterator = MultiprocessIterator(data, 8, n_processes=1)
if "alone" in words:
    optimizer.setup(model, distrain.comm.local())
    iterator = SerialIterator(data, 8, comm=distrain.comm.local())
    Path(out).mkdir(exist_ok=True)
    Path(out, f"pid-{comm.rank}").write_text(str(os.getpid()))
    out = os.path.join(out, *["own"] * comm.rank)
updater = (Counting if "counting" in words else training.StandardUpdater)(iterator, optimizer)
trainer = training.Trainer(updater, (int(last), "iteration"), out=out)


def act(trainer: training.Trainer) -> None:
    if trainer.updater.iteration == 9 and "stuck" in words:
        Path(out, f"stuck-{comm.rank}").touch()
        time.sleep(60)
    if trainer.updater.iteration == int(at) and victim in ("all", str(comm.rank)):
        os.kill(os.getpid(), getattr(signal, name))


trainer.extend(act)
trainer.extend(extensions.LogReport(trigger=(3, "iteration")))
saved: list[str] = []


def save_slowly(path: str, target: object) -> None:
    """The third file is never complete."""
    saved.append(path)
    if len(saved) == 3:
        Path(path).write_bytes(b"PK")
        print("saves", flush=True)
        time.sleep(60)
    distrain.serializers.save_npz(path, target)


if "slow" in words:
    trainer.extend(extensions.snapshot(save_slowly), trigger=(2, "iteration"))
elif "nothing" not in words:
    best = triggers.MinValueTrigger("main/loss", (2, "iteration"))
    trainer.extend(extensions.snapshot(filename="best"), name="best", trigger=best)
    condition = (lambda: False) if "condition" in words else None
    trainer.extend(
        extensions.snapshot(n_retains=2, autoload="auto" in words, condition=condition), trigger=(1000, "iteration")
    )
code = 0
try:
    trainer.run()
except SystemExit as error:
    code = error.code
    raise
finally:
    weights = b"".join(p.array.tobytes() for _, p in sorted(model.namedparams()))
    digest = hashlib.sha256(weights).hexdigest()[:16]
    files = len(list(Path(out).glob(f"rank-{comm.rank}-*")))
    Path(out, f"rank-{comm.rank}-{files}").write_text(f"{code} {updater.iteration} {digest}")
    if "late" in words:  # srun ends the ranks that are later than the first one
        os.kill(os.getpid(), signal.SIGTERM)
