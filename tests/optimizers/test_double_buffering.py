"""Double buffering on real ranks: each update uses the gradients of the step before, and their sum hides behind the
computing."""

import json

import numpy as np
import pytest

SCRIPT = """
import json, sys, time
import numpy as np
import distrain
import distrain.functions as F
import distrain.links as L
from distrain import comm, optimizers
from distrain.clock import clock

world = comm.world()
link = L.Linear(3, 1, nobias=True, initialW=np.array([[1.0, -2.0, 0.5]], np.float32))
optimizer = optimizers.SGD(0.1).setup(link)
optimizer.use_exchange("double", dtype=json.loads(sys.argv[1]))
x = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
mine = x[world.rank :: world.size] if world.size < 4 else x[world.rank : world.rank + 1]

def loss(x):
    return F.mean(link(x) ** 2)

weights = []
for _ in range(6):
    optimizer.update(loss, mine)
    weights.append(link.W.array.ravel().tolist())
world.print(json.dumps(weights))
"""


def by_hand(steps):
    """The same on one process: a step uses the gradient at the weights before the last update."""
    x = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
    w = np.array([1.0, -2.0, 0.5], np.float32)
    weights, late = [], None
    for _ in range(steps):
        gradient = 2 * x.T @ (x @ w) / len(x)
        if late is not None:
            w = w - 0.1 * late
        late = gradient
        weights.append(w)
    return weights


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("n", "dtype", "tolerance"), [(2, None, 1e-6), (4, None, 1e-6), (2, "float16", 2e-3), (2, "bfloat16", 2e-2)]
)
def test_each_update_uses_the_gradients_of_the_step_before(run_ranks, n, dtype, tolerance):
    weights = json.loads(run_ranks(SCRIPT, n, json.dumps(dtype)).check().stdout)
    np.testing.assert_allclose(weights, by_hand(6), rtol=tolerance)
    assert weights[0] == [1.0, -2.0, 0.5]


SLOW = """
import time
import numpy as np
import distrain.links as L
from distrain import comm, multi_node, optimizers
from distrain.clock import clock

world = comm.world()
allreduce = world.channel.allreduce
world.channel.allreduce = lambda array: (time.sleep(0.05), allreduce(array))
model = L.Classifier(L.Linear(4, 3))
optimizer = multi_node.create_multi_node_optimizer(optimizers.Adam(), world, double_buffering=True).setup(model)
x, t = np.ones((5, 4), np.float32), np.zeros(5, np.int32)

def loss(x, t):
    time.sleep(0.05)
    return model(x, t)

for _ in range(12):
    optimizer.update(loss, x, t)
sending, waiting = clock.seconds["sending"], clock.seconds["exchange"]
assert sending >= 10 * 0.05, sending
assert waiting < sending / 2, (sending, waiting)
optimizer.use_exchange("direct")
optimizer.update(loss, x, t)
optimizer.use_exchange("double")
optimizer.update(loss, x, t)  # its sum is still under way when the program ends
"""


@pytest.mark.mpi
def test_a_slow_network_hides_behind_the_computing(run_ranks, mpi_python):
    run_ranks(SLOW, 2, python=mpi_python).check()


OTHERS = """
import random, sys, time
import numpy as np
import distrain.links as L
from distrain import comm, optimizers

world = comm.world()
chance = random.Random(world.rank)
channel, sum_by_mpi = world.channel, world.channel._sum_by_mpi

def sum_later(flat):
    time.sleep(chance.random() * 4e-3)
    sum_by_mpi(flat)

channel._sum_by_mpi = sum_later
models = [L.Classifier(L.Linear(4, size)) for size in (3, 5)]
both = [optimizers.SGD(0.1).setup(model) for model in models]
for optimizer in both:
    optimizer.use_exchange(sys.argv[1], bucket_bytes=16)
x, t = np.full((2, 4), 1.0 + world.rank, np.float32), np.zeros(2, np.int32)
for step in range(40):
    for optimizer, model in zip(both, models):
        optimizer.update(model, x, t)
        time.sleep(chance.random() * 2e-3)
    assert world.allreduce(np.array([step, 1])).tolist() == [2 * step, 2]
digest = [param.array.tobytes().hex() for model in models for _, param in sorted(model.namedparams())]
assert world.allgather_obj(digest) == [digest] * 2
"""


@pytest.mark.mpi
@pytest.mark.parametrize("how", ["double", "buckets"])
def test_sums_of_others_meanwhile_come_in_the_same_order_on_all_ranks(run_ranks, mpi_python, how):
    run_ranks(OTHERS, 2, how, python=mpi_python).check()


UNUSED = """
import numpy as np
import distrain
import distrain.functions as F
import distrain.links as L
from distrain import comm, optimizers

world = comm.world()

class Two(distrain.Chain):
    def __init__(self):
        super().__init__(a=L.Linear(2, 1, nobias=True), b=L.Linear(2, 1, nobias=True))

model = Two()
optimizer = optimizers.SGD(1.0).setup(model)
optimizer.use_exchange("double")
x = np.ones((3, 2), np.float32)
start = model.b.W.array.copy()
for step in range(5):
    used = (step == 1 and world.rank == 1)
    optimizer.update(lambda x: F.mean(model.a(x)) + (F.mean(model.b(x)) if used else 0), x)
    changed = not np.array_equal(model.b.W.array, start)
    assert changed == (step >= 2), step
assert np.allclose(model.b.W.array, start - 0.5)  # once, with the mean over the ranks
optimizer.loss_scaling()
try:
    optimizer.update(lambda x: F.mean(model.a(x)), x)
except distrain.errors.ArgumentError as error:
    assert "loss scale" in str(error)
else:
    raise AssertionError
"""


@pytest.mark.mpi
def test_gradients_that_come_and_go(run_ranks):
    run_ranks(UNUSED, 2).check()
