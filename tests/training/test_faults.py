"""Ranks that fail inside a step, or train something else than the others: a real job each, and what it says last."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mpi
BOUND_S = 10.0  # from the fault to the end of the last process; on a machine of our own it is 2

SCRIPT = """
import os, pathlib, signal, sys, threading, time
import numpy as np
import distrain
import distrain.functions as F
import distrain.links as L
from distrain import training

fault, folder = sys.argv[1:]
world = distrain.comm.world()
is_victim = world.rank == 1

def begin():
    (pathlib.Path(folder) / "began").write_text(str(time.time()))

def here(place):
    if is_victim and fault == place and trainer.updater.iteration == 3:
        begin()
        if place == "leave":
            sys.exit()
        raise ValueError("the cause")

class Fragile(distrain.FunctionNode):
    def forward(self, inputs):
        here("forward")
        return inputs

    def backward(self, indexes, grads):
        here("backward")
        return grads

class Net(L.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(4, 5 if is_victim and fault == "model" else 3)
            self.l2 = L.Linear(None, 2)

    def forward(self, x):
        here("leave")
        return self.l2(Fragile().apply((self.l1(x),))[0])

allreduce = world.channel.allreduce

def send(flat):
    if threading.current_thread().name == "distrain gradients" and trainer.updater.iteration == 3:
        here("thread")
        if fault == "SIGKILL":  # sooner or later, in the middle of a sum
            if is_victim:
                begin()
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
            while True:
                allreduce(flat)
    allreduce(flat)

world.channel.allreduce = send
x, t = np.zeros((8, 4), np.float32), np.zeros(8, np.int32)
if fault in ("model", "steps"):
    begin()
optimizer = distrain.optimizers.SGD().setup(L.Classifier(Net()))
iterator = distrain.iterators.SerialIterator(distrain.datasets.TupleDataset(x, t), 4)
steps = 3 if is_victim and fault == "steps" else 10**6
trainer = training.Trainer(training.StandardUpdater(iterator, optimizer), (steps, "iteration"), out=folder)
trainer.run()
"""


@pytest.mark.parametrize(
    ("fault", "code", "who", "cause"),
    [
        ("forward", 1, "1", r'in forward\n    here\("forward"\)\n(.*\n)*ValueError: the cause'),
        ("backward", 1, "1", r'in backward\n    here\("backward"\)\n(.*\n)*ValueError: the cause'),
        ("thread", 1, "1", r"in _work\n(.*\n)*ValueError: the cause"),
        ("SIGKILL", 137, "1", r"was ended by SIGKILL(.*\n)*  ranks? 0.* exchange \d+ of gradients, sum of \d+ float32"),
        ("model", 1, "[01]", r"WorldError: .*parameter /predictor/l1/W.*\n"),
        ("steps", 1, "1", r"iteration 3, ended with exit code 0 while other ranks waited for it\."),
        ("leave", 1, "1", r"iteration 3, ended with exit code 0 while other ranks waited for it\."),
    ],
)
def test_all_ranks_are_gone_in_time_and_the_cause_is_said_last(
    mpi: Any, tmp_path: Path, fault: str, code: int, who: str, cause: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "distrain_launch", "run", "-n", "2", str(script), fault, str(tmp_path)]
    variables = {"CUDA_VISIBLE_DEVICES": "", "DISTRAIN_EXCHANGE": "buckets:16"}
    done = mpi.run(command, env=variables, timeout=40)
    seconds = time.time() - float((tmp_path / "began").read_text())
    assert done.returncode == code, done.stderr
    *_, report = re.split(r"^(?=rank \d of 2 on )", done.stderr, flags=re.MULTILINE)
    assert re.match(rf"rank {who} of 2 on ", report), done.stderr
    assert re.search(cause, report), done.stderr
    assert not re.search(r"^\[", report, flags=re.MULTILINE)  # no line of another rank after it
    if fault in ("steps", "leave"):  # where the other one is in the script, although a thread sends its gradients
        assert re.search(r'rank 0 .*: exchange \d+ of gradients, .* \(File ".*/train.py", line', done.stderr)
    assert seconds < BOUND_S
