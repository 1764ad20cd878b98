from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SCRIPT = r"""
import re
import sys
import numpy as np
import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers
from distrain.errors import WorldError
from distrain.optimizers import consistency

comm = distrain.comm.world()
last = comm.rank == comm.size - 1
x = np.ones((2, 3), np.float32)

def refused(optimizer):
    model = optimizer.target
    try:
        optimizer.update(lambda: F.sum(model(x)))
    except WorldError as error:
        return str(error)
    raise AssertionError("accepted")

# At the start: another kind, another value, another hook, another version.
kind = optimizers.SGD if last else optimizers.MomentumSGD
text = refused(kind().setup(L.Linear(3, 2)))
assert f"optimizer: SGD on rank {comm.size - 1}, but MomentumSGD on rank 0" in text, text
text = refused(optimizers.SGD(lr=0.5 if last else 0.1).setup(L.Linear(3, 2)))
assert f"hyperparameter lr: 0.5 on rank {comm.size - 1}, but 0.1 on rank 0" in text, text
optimizer = optimizers.SGD().setup(L.Linear(3, 2))
if last:
    optimizer.add_hook(distrain.optimizer_hooks.WeightDecay(0.1))
text = refused(optimizer)
assert f"hooks: WeightDecay on rank {comm.size - 1}, but none on rank 0" in text, text
version = consistency.np.__version__
consistency.np.__version__ = "1.0" if last else version
text = refused(optimizers.SGD().setup(L.Linear(3, 2)))
assert f"version of NumPy: 1.0 on rank {comm.size - 1}, but {version} on rank 0" in text, text
consistency.np.__version__ = version
main = sys.modules["__main__"]
script = main.__file__
if last:
    main.__file__ = consistency.__file__
text = refused(optimizers.SGD().setup(L.Linear(3, 2)))
assert re.search(rf"script: consistency.py \(sha256 \w{{12}}…\) on rank {comm.size - 1}, but script.py ", text), text
main.__file__ = script

# Later: numbers that go their own way on one rank.
model = distrain.Chain()
with model.init_scope():
    model.l1, model.l2 = L.Linear(3, 3), L.Linear(3, 2)
optimizer = optimizers.SGD().setup(model)
optimizer.check_interval = 4
for step in range(7):
    optimizer.update(lambda: F.sum(model.l2(model.l1(x))))
    if step == 5 and last:
        model.l2.W.array[0, 0] += 1e-6 + abs(model.l2.W.array[0, 0]) * 1e-6
try:
    optimizer.update(lambda: F.sum(model.l2(model.l1(x))))
except WorldError as error:
    assert f"after update 8 rank {comm.size - 1} has other numbers than rank 0 in parameter /l2/W." in str(error), error
else:
    raise AssertionError("accepted")
optimizer.check_interval = 0
for _ in range(8):
    optimizer.update(lambda: F.sum(model.l2(model.l1(x))))
print("passed", flush=True)
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n", [2, 3])
def test_ranks_that_train_different_things_are_refused(run_ranks: Callable[..., Any], n: int) -> None:
    assert run_ranks(SCRIPT, n).check().stdout.count("passed") == n
