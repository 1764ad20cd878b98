"""Run on every rank: `modes_suite.py N`: the ways to exchange gradients give the same, and do what they say."""

# ruff: noqa: PT017

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
import time
from typing import Any

import numpy as np

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import minibatch, optimizers
from distrain.autograd import FunctionNode
from distrain.comm.channel import Channel
from distrain.datasets import TupleDataset
from distrain.errors import WorldError
from distrain.iterators import SerialIterator
from distrain.optimizers import exchange_plan
from distrain.serializers import DictionarySerializer, NpzDeserializer

comm = distrain.comm.world()
assert comm.size == int(sys.argv[1])
random = np.random.default_rng(5)
X = random.normal(size=(103, 8)).astype(np.float32)
T = random.integers(0, 3, 103).astype(np.int32)
exchange_plan._SIZES = (64, 700)  # so that there is something to choose for a small model


class Spy(Channel):
    """The real channel, with a delay; notes who calls it with what."""

    def __init__(self, real: Channel) -> None:
        self.real = real
        self.calls: list[tuple[str, int, np.dtype[Any]]] = []
        self.arrays: list[Any] = []
        self.delay_s = 0.0
        self.error: Exception | None = None

    def allreduce(self, flat: Any) -> None:
        self.calls.append((threading.current_thread().name, flat.size, flat.dtype))
        self.arrays.append(flat)
        if self.error is not None:
            raise self.error
        time.sleep(self.delay_s * flat.size)
        self.real.allreduce(flat)

    def alltoall(self, *args: Any) -> None:
        self.real.alltoall(*args)

    def allgather(self, *args: Any) -> None:
        self.real.allgather(*args)

    def close(self) -> None:
        self.real.close()


spy = comm.channel = Spy(comm.channel)


class MLP(distrain.Chain):
    """One layer is used twice, one never, one by rank 0 only; the first gets its size from the data."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(None, 12)
            self.twice = L.Linear(12, 12)
            self.unused = L.Linear(3, 3)
            self.sometimes = L.Linear(12, 12)
            self.l3 = L.Linear(12, 3)

    def forward(self, x: Any, t: Any) -> Any:
        h = F.relu(self.l1(x))
        if comm.rank == 0:
            h = h + self.sometimes(h) * 0.01
        h = F.relu(self.twice(h)) + self.twice(h)
        return F.softmax_cross_entropy(self.l3(h), t)


def digest(model: Any) -> str:
    return hashlib.sha256(b"".join(p.array.tobytes() for p in model.params())).hexdigest()


def train(how: str, steps: int = 15, batch: int = 20, samples: int = 103, **settings: Any) -> tuple[Any, Any]:
    distrain.set_seed(7)
    model = MLP()
    optimizer = optimizers.MomentumSGD(lr=0.05).setup(model)
    optimizer.use_exchange(how, **settings)
    spy.calls.clear()
    spy.arrays.clear()
    iterator = SerialIterator(TupleDataset(X[:samples], T[:samples]), batch, seed=1)
    for _ in range(steps):
        optimizer.update(model, *distrain.dataset.concat_examples(next(iterator)))
    assert len(set(comm.allgather_obj(digest(model)))) == 1, how
    minibatch.announce(None)
    return model, optimizer


def check_same(model: Any, other: Any) -> None:
    for (path, a), b in zip(model.namedparams(), other.params(), strict=True):
        if comm.size == 2:  # a + b is b + a, in pieces too
            np.testing.assert_array_equal(a.array, b.array, err_msg=path)
        else:
            np.testing.assert_allclose(a.array, b.array, rtol=2e-5, atol=1e-6, err_msg=path)


# All ways give the same; ragged minibatches and ranks without a sample included.
for batch, samples in ((20, 103), (5, 11)):
    direct, optimizer = train("direct", batch=batch, samples=samples)
    buffer = optimizer._groups[0].buffer
    assert all([np.shares_memory(array, buffer) for array in spy.arrays[-3:]])  # nothing is packed
    assert {name for name, *_ in spy.calls} == {"MainThread"}
    assert [size for _, size, _ in spy.calls[-3:]] == [len(buffer)] * 3
    for how, settings in (("buckets", {"bucket_bytes": 64}), ("buckets", {"bucket_bytes": 700}), ("measure", {})):
        model, optimizer = train(how, batch=batch, samples=samples, **settings)
        check_same(direct, model)
        if how == "buckets":
            buckets = optimizer._exchange._buckets
            per_step = len(buckets)
            assert per_step > 2
            sizes = [size for name, size, _ in spy.calls if name == "distrain gradients"]
            assert sizes[-per_step:] == [bucket.stop - bucket.start for bucket in buckets]
            assert sum(sizes[-per_step:]) == len(optimizer._groups[0].buffer)
            assert len(set(comm.allgather_obj(tuple(sizes)))) == 1
            assert all([np.shares_memory(a, optimizer._groups[0].buffer) for a in spy.arrays[-per_step:]])
        else:
            assert optimizer._plan.is_settled
            assert {name for name, *_ in spy.calls} == {"MainThread", "distrain gradients"}
            assert len(set(comm.allgather_obj(optimizer._plan.bucket_bytes))) == 1
        if rank_0_first := [i for g, i in optimizer._plan.arrivals]:
            assert optimizer._groups[0].params[rank_0_first[-1]] in (model.l1.W, model.l1.b)


# A parameter that gets its size while the others are being sent already.
class Late(distrain.Chain):
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.l1, self.l2, self.l3 = L.Linear(8, 12), L.Linear(12, 12), L.Linear(12, 3)
            self.late = L.Linear(None, 3)

    def forward(self, x: Any, t: Any) -> Any:
        h = F.relu(self.l1(x))
        y = self.l3(F.relu(self.l2(h)))
        self.steps += 1
        return F.softmax_cross_entropy(y + self.late(h) if self.steps > 6 else y, t)


results = []
for how in ("direct", "buckets"):
    distrain.set_seed(7)
    late = Late()
    optimizer = optimizers.MomentumSGD(lr=0.1).setup(late)
    optimizer.use_exchange(how, bucket_bytes=64)
    for step in range(14):
        minibatch.announce(minibatch.Share(step, comm.rank * 4, 4, 4 * comm.size))
        optimizer.update(late, X[comm.rank * 4 :][:4], T[comm.rank * 4 :][:4])
    minibatch.announce(None)
    assert len(set(comm.allgather_obj(digest(late)))) == 1
    results.append(late)
check_same(*results)

# A saved choice is taken over, on as many ranks.
model, optimizer = train("measure")
writer = DictionarySerializer()
optimizer._serialize_exchange(writer)
saved = dict(writer.target)
assert saved["ranks"] == comm.size
fresh = optimizers.SGD()
fresh.setup(MLP())
fresh._serialize_exchange(NpzDeserializer(saved))
assert fresh._exchange_settings.how == ("buckets" if saved["bucket_bytes"] else "direct")
saved["ranks"] = saved["ranks"] + 1
fresh = optimizers.SGD()
fresh.setup(MLP())
fresh._serialize_exchange(NpzDeserializer(saved))
assert fresh._exchange_settings is None


# Gradients of 16 bits on the wire: half the bytes, and gradients within their rounding.
class Free(distrain.Chain):
    def __init__(self, values: Any) -> None:
        super().__init__()
        with self.init_scope():
            self.w = distrain.Parameter(np.zeros_like(values))


values = [np.random.default_rng(r).normal(size=70_000).astype(np.float32) for r in range(comm.size)]
exact = np.mean(values, axis=0, dtype=np.float64)
rounding = np.mean(np.abs(values), axis=0) + np.abs(exact)
for how, (name, digits) in itertools.product(("direct", "buckets"), (("float16", 11), ("bfloat16", 8))):
    bound = rounding * 2.0**-digits + 1e-6
    model = Free(values[0])
    optimizer = optimizers.SGD(lr=1.0).setup(model)
    optimizer.use_exchange(how, dtype=name)
    for _ in range(3):
        spy.calls.clear()
        optimizer.update(lambda model=model: F.sum(model.w * values[comm.rank]))
        assert (np.abs(model.w.grad - exact) <= bound).all()
        assert (model.w.grad != exact.astype(np.float32)).any()
        assert {str(dtype) for *_, dtype in spy.calls} == {name}
        assert len(set(comm.allgather_obj(model.w.grad.tobytes()))) == 1

# What bfloat16 has range for does not overflow.
model = Free(values[0])
optimizer = optimizers.SGD(lr=1.0).setup(model)
optimizer.use_exchange(dtype="bfloat16")
for _ in range(2):
    optimizer.update(lambda model=model: F.sum(model.w * np.full_like(values[0], 2.0**100)))
assert (model.w.grad == 2.0**100).all()

# Ranks that would exchange in different ways are refused before anything is sent.
optimizer.use_exchange(dtype="bfloat16" if comm.rank == 0 else None)
try:
    optimizer.update(lambda model=model: F.sum(model.w))
except WorldError as error:
    assert "dtype=None, but rank 0 by how='auto'" in str(error), error
else:
    assert comm.size == 1, "ranks that exchange in different ways were accepted"

# Different optimizers at the same time: an error, not each other's gradients.
one, two = Free(np.zeros(5, np.float32)), Free(np.zeros(5, np.float32))
first, second = optimizers.SGD().setup(one), optimizers.SGD().setup(two)
for optimizer, model in ((first, one), (second, two)):
    optimizer.update(lambda model=model: F.sum(model.w))
chosen, model = (first, one) if comm.rank == 0 else (second, two)
try:
    chosen.update(lambda model=model: F.sum(model.w))
except WorldError as error:
    assert "different optimizers" in str(error), error
else:
    raise AssertionError("mixed gradients were accepted")

# Different layouts are refused before anything is sent.
last = comm.rank == comm.size - 1
odd = distrain.Chain()
with odd.init_scope():
    odd.a, odd.b = distrain.Parameter(np.zeros(2, np.float32)), distrain.Parameter(np.zeros(3, np.float32))
optimizer = optimizers.SGD().setup(odd)
if last:
    odd.b.bind(np.zeros(3, np.float32), np.zeros(3, np.float32))  # as if another optimizer had it
try:
    optimizer.update(lambda: F.sum(odd.a) + F.sum(odd.b))
except WorldError as error:
    assert "would sum" in str(error), error
else:
    raise AssertionError("different layouts were accepted")

# What the thread raises is raised by update; and a failed backward pass leaves nothing behind.
model, optimizer = train("buckets", bucket_bytes=64)
spy.error = ValueError("the wire is cut")
try:
    optimizer.update(model, X[:4], T[:4])
except ValueError as error:
    assert "cut" in str(error)
else:
    raise AssertionError("the error of the thread was lost")
spy.error = None


class Slow(FunctionNode):
    """Takes its time on the way back."""

    def forward(self, inputs: Any) -> Any:
        return (inputs[0].copy(),)

    def backward(self, indexes: Any, gys: Any) -> Any:
        time.sleep(0.02)
        if fail:
            raise ValueError("in backward")
        return gys


fail = False


class Deep(distrain.Chain):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = layers
        with self.init_scope():
            for i in range(layers):
                setattr(self, f"w{i}", distrain.Parameter(np.ones(1000, np.float32)))

    def forward(self, x: Any) -> Any:
        for i in range(self.layers):
            (x,) = Slow().apply((x * getattr(self, f"w{i}"),))
        return F.sum(x)


# Sending is hidden behind the backward pass: about 10 x 20 ms each, and not their sum.
seconds = {}
deep = Deep(10)
for how in ("direct", "buckets"):
    optimizer = optimizers.SGD(lr=0.0).setup(deep)
    optimizer.use_exchange(how, bucket_bytes=4000)
    for _ in range(2):
        optimizer.update(deep, np.zeros(1000, np.float32))
    spy.delay_s = 0.02 / 1000
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        optimizer.update(deep, np.zeros(1000, np.float32))
        taken.append(time.perf_counter() - start)
    seconds[how] = min(taken)  # the machine may have other things to do
    spy.delay_s = 0.0
assert seconds["direct"] > 0.39, seconds
if comm.size == 2:  # more ranks than cores hide nothing
    assert seconds["buckets"] < 0.85 * seconds["direct"], seconds

fail = True
try:
    optimizer.update(deep, np.full(1000, 13, np.float32))
except ValueError as error:
    assert "in backward" in str(error)
assert all([param.on_grad is None for param in deep.params()])
deep.cleargrads()
spy.calls.clear()
F.sum(deep.w0 * 2).backward()  # by hand: nothing is sent early
assert not spy.calls
optimizer.update()
np.testing.assert_array_equal(deep.w0.grad, np.full(1000, 2, np.float32))
comm.barrier()
comm.channel = spy.real
print("passed", flush=True)
