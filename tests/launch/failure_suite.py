"""A training that fails as it is told: `failure_suite.py FAULT VICTIM MOMENT FOLDER`.

FAULT is an exception, an exit, the name of a signal that the rank sends itself, or what takes memory. VICTIM is a rank,
`all`, or `launcher`: then all ranks wait at that moment for what happens to the launcher. The moment is

    start        before the world is asked for
    step         in an extension, after the third iteration
    evaluation   while the validation set is read
    snapshot     while rank 0 writes a file, or another rank gathers for it what it has
    shutdown     after the training

Each rank that is to do something notes the time in FOLDER/began-RANK.
"""

from __future__ import annotations

import os
import pathlib
import resource
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

from distrain.env import rank_info

fault, victim, moment, name = sys.argv[1:]
folder, rank = pathlib.Path(name), rank_info().rank
STEPS = 3


def raise_in_thread() -> None:
    raise ValueError("the cause")


def act() -> None:
    if fault == "exception":
        raise ValueError("the cause")
    if fault == "exception in a thread":
        threading.Thread(target=raise_in_thread, name="reader").start()
        time.sleep(60)
    if fault == "import error":
        import module_that_is_not_there  # type: ignore[import-not-found] # noqa: F401, PLC0415
    if fault == "sys.exit(3)":
        sys.exit(3)
    if fault == "raise SystemExit(3)":
        raise SystemExit(3)
    if fault == "os._exit(3)":
        os._exit(3)
    if fault == "OOM (ulimit)":
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
    if fault.startswith("OOM"):
        taken = []
        while True:
            taken.append(np.ones(2**21))
    os.kill(os.getpid(), getattr(signal, fault))
    time.sleep(60)


def at(here: str) -> None:
    if here == moment and victim in ("launcher", "all", str(rank)):
        (folder / f"began-{rank}").write_text(str(time.time()))
        if victim == "launcher":
            time.sleep(60)
        act()


class Validation:
    """Samples whose reading is the moment of the evaluation."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: Any) -> Any:
        at("evaluation")
        return np.zeros(4, np.float32), np.zeros(1, np.float32)


class Saved:
    """What a snapshot saves; ranks other than 0 take part in `gather`."""

    def gather(self) -> None:
        if rank:
            at("snapshot")

    def serialize(self, serializer: Any) -> None:
        at("snapshot")


at("start")

import distrain  # noqa: E402
import distrain.links as L  # noqa: E402
from distrain import training  # noqa: E402
from distrain.training import extensions  # noqa: E402

data = distrain.datasets.TupleDataset(np.zeros((8, 4), np.float32), np.zeros((8, 1), np.float32))
model = L.Classifier(L.Linear(4, 1), lossfun=distrain.functions.mean_squared_error)
model.compute_accuracy = False
optimizer = distrain.optimizers.SGD().setup(model)
updater = training.StandardUpdater(distrain.iterators.SerialIterator(data, 4), optimizer)
trainer = training.Trainer(updater, (STEPS if moment == "shutdown" else 10**6, "iteration"), out=str(folder / "out"))
trainer.extend(lambda trainer: at("step"), name="step", trigger=(STEPS, "iteration"))
if moment == "evaluation":
    validation = distrain.iterators.SerialIterator(Validation(), 4, repeat=False, shuffle=False)
    trainer.extend(extensions.Evaluator(validation, model), trigger=(STEPS, "iteration"))
trainer.extend(extensions.snapshot_object(Saved(), "saved"), trigger=(STEPS, "iteration"))
trainer.run()
at("shutdown")
