"""Run on every rank: `spread_suite.py N`: state that is spread over the ranks trains as state that is not."""

# ruff: noqa: PT017

from __future__ import annotations

import hashlib
import io
import sys
from typing import Any

import numpy as np

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import minibatch, optimizers
from distrain.datasets import TupleDataset
from distrain.errors import ArgumentError, WorldError
from distrain.iterators import SerialIterator
from distrain.optimizer_hooks import GradientClipping, WeightDecay
from distrain.optimizers import exchange_plan
from distrain.optimizers.spread import Spread
from distrain.serializers import load_npz, save_npz

comm = distrain.comm.world()
size = comm.size
assert size == int(sys.argv[1])
random = np.random.default_rng(5)
X = random.normal(size=(103, 8)).astype(np.float32)
T = random.integers(0, 3, 103).astype(np.int32)
exchange_plan._SIZES = (64, 700)  # so that there is something to choose for a small model


class MLP(distrain.Chain):
    """One layer is used twice, one never, one by rank 0 only, one gets its size from the data in the fifth step."""

    def __init__(self, dtype: Any = np.float32) -> None:
        super().__init__()
        self.steps = 0
        with distrain.using_config("dtype", dtype), self.init_scope():
            self.l1 = L.Linear(None, 12)
            self.twice = L.Linear(12, 12)
            self.unused = L.Linear(3, 3)
            self.sometimes = L.Linear(12, 12)
            self.late = L.Linear(None, 12)
            self.l3 = L.Linear(12, 3)

    def forward(self, x: Any, t: Any) -> Any:
        self.steps += 1
        h = F.relu(self.l1(x))
        if comm.rank == 0:
            h = h + self.sometimes(h) * 0.01
        if self.steps > 5:
            h = h + self.late(h)
        h = F.relu(self.twice(h)) + self.twice(h)
        return F.softmax_cross_entropy(self.l3(h), t)


def digest(model: Any) -> str:
    return hashlib.sha256(b"".join(p.array.tobytes() for p in model.params(False))).hexdigest()


def whole_gradients(optimizer: Any) -> None:
    """A hook over all gradients, which must be those of all ranks."""
    for param in optimizer.target.params():
        if param.grad is not None:
            param.grad *= param.grad.dtype.type(1 / (1 + abs(float(param.grad.astype(np.float64).sum()))))


def clip_weights(rule: Any, param: Any) -> None:
    param.array.clip(-0.4, 0.4, out=param.array)


clip_weights.elementwise = True
clip_weights.call_for_each_param = True
clip_weights.timing = "post"


def halve(rule: Any, param: Any) -> None:
    assert param.grad.shape == param.array.shape == (3,)
    param.grad *= 0.5 + 0.1 * float(np.sign(param.grad.sum()))


def shrink(rule: Any, param: Any) -> None:
    param.array *= 0.9 if param.array.sum() > 0 else 0.8  # of the whole parameter, after the update


def plain(optimizer: Any) -> None:
    pass


def with_frozen(optimizer: Any) -> None:
    model = optimizer.target
    model.twice.W.update_rule.enabled = False
    model.l3.W.update_rule.hyperparam.lr = 0.3


def with_hooks_of_its_own(optimizer: Any) -> None:
    rule = optimizer.target.l3.b.update_rule
    rule.add_hook(halve)
    rule.add_hook(shrink, timing="post")


def with_hooks(*hooks: Any) -> Any:
    def prepare(optimizer: Any) -> None:
        for hook in hooks:
            optimizer.add_hook(hook)

    return prepare


def train(
    make: Any, prepare: Any, shards: Any, steps: int = 14, dtype: Any = np.float32, accumulate: int = 1, **how: Any
) -> Any:
    """Trains; `shards` is asked before each step whether the state is to be spread then."""
    distrain.set_seed(7)
    model = MLP(dtype)
    optimizer = make().setup(model, accumulate=accumulate)
    if dtype == np.float16:
        optimizer.use_fp32_update()
        optimizer.loss_scaling(interval=3, scale=None)
    if how:
        optimizer.use_exchange(**how)
    prepare(optimizer)
    iterator = SerialIterator(TupleDataset(X.astype(dtype), T), 20, seed=1)
    last = False
    for step in range(steps):
        if shards(step) != last:
            last = not last
            optimizer.shard_state(last)
        examples = distrain.dataset.concat_examples(next(iterator))
        if dtype == np.float16 and step == 3 and comm.rank == size - 1:
            examples[0][0] = np.inf  # a step that all ranks leave out
        with np.errstate(invalid="ignore"):
            optimizer.update(model, *examples)
    assert len(set(comm.allgather_obj(digest(model)))) == 1, (make, prepare)
    minibatch.announce(None)
    return optimizer


def check_same(one: Any, other: Any, why: Any, exact: bool = size == 2) -> None:
    named = zip(one.target.namedparams(), other.target.params(), strict=True)
    for (path, a), b in named:
        if exact or size == 1:
            np.testing.assert_array_equal(a.array, b.array, err_msg=f"{why} {path}")
        else:
            tolerance = 2e-2 if a.dtype == np.float16 else 2e-4
            np.testing.assert_allclose(a.array, b.array, rtol=tolerance, atol=tolerance / 10, err_msg=f"{why} {path}")
        assert a.update_rule.t == b.update_rule.t


def always(step: int) -> bool:
    return True


def never(step: int) -> bool:
    return False


def momentum() -> Any:
    return optimizers.MomentumSGD(lr=0.05)


# All rules, ways to exchange, hooks and kinds of parameters: the same numbers.
for make in (optimizers.SGD, momentum, optimizers.Adam, lambda: optimizers.AdamW(amsgrad=True), optimizers.RMSprop):
    check_same(train(make, plain, never), train(make, plain, always), make)
for how in ({"how": "direct"}, {"how": "buckets", "bucket_bytes": 64}, {"how": "measure"}, {"dtype": np.float16}):
    check_same(train(momentum, plain, never, **how), train(momentum, plain, always, **how), how)
for name in ("float16", "bfloat16"):  # on the wire

    def sent_as(optimizer: Any, name: str = name) -> None:
        optimizer.use_exchange(dtype=name)

    check_same(train(momentum, sent_as, never), train(momentum, sent_as, always), name)
for prepare in (
    with_frozen,
    with_hooks_of_its_own,
    with_hooks(WeightDecay(0.1)),
    with_hooks(clip_weights),
    with_hooks(whole_gradients, WeightDecay(0.1)),
):
    spread = train(momentum, prepare, always)
    check_same(train(momentum, prepare, never), spread, prepare)
for threshold in (0.05, 100.0):  # the norm is a sum over the ranks' parts
    prepare = with_hooks(GradientClipping(threshold))
    check_same(
        train(momentum, prepare, never), train(momentum, prepare, always), "clipping", size == 2 and threshold == 100.0
    )
check_same(train(momentum, plain, never, accumulate=3), train(momentum, plain, always, accumulate=3), "accumulate")
for prepare in (plain, with_hooks(WeightDecay(0.1)), with_hooks_of_its_own):
    half = [train(optimizers.Adam, prepare, shards, dtype=np.float16) for shards in (never, always)]
    check_same(*half, ("float16", prepare))
    assert half[0].loss_scale == half[1].loss_scale
    assert half[0].t == half[1].t < 14
# On and off in the middle.
whole = train(optimizers.Adam, plain, never)
for shards in (lambda step: step > 3, lambda step: step < 9, lambda step: step % 4 < 2):
    other = train(optimizers.Adam, plain, shards)
    check_same(whole, other, "on and off")
    (group,) = other._groups
    assert (len(group.state["m"]) == len(group.array)) == (size == 1 or not shards(13))


# What happens on one rank only and does not change the model: it is moved and back.
model = MLP()
model.steps = 9
one, other = optimizers.Adam().setup(model), optimizers.Adam().setup(model.copy("copy"))
other.shard_state()
for step in range(4):
    if comm.rank == 0 and step == 2:
        for param in other.target.params():
            param.unbind()
    for optimizer in (one, other):
        distrain.minibatch.announce(minibatch.Share(step, comm.rank * 4, 4, 4 * size))
        optimizer.update(optimizer.target, X[comm.rank * 4 :][:4], T[comm.rank * 4 :][:4])
minibatch.announce(None)
check_same(one, other, "moved and back")


# Each rank has its part of the state, and no more.
class Large(distrain.Chain):
    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.w, self.v = distrain.Parameter(1.0, (1000, 7)), distrain.Parameter(1.0, (333,))


large = optimizers.Adam().setup(Large())
large.shard_state()
for _ in range(2):
    large.update(lambda: F.sum(large.target.w) + F.sum(large.target.v))
    assert (large.target.w.grad is None) == (size > 1)  # no rank has all of it
large.shard_state(whole_gradients=True)
large.update(lambda: F.sum(large.target.w) + F.sum(large.target.v))
np.testing.assert_allclose(large.target.w.grad, 1, rtol=1e-6)
nbytes = sum(array.nbytes for group in large._groups for array in group.state.values())
assert abs(nbytes - 2 * 4 * 7333 / size) <= 2 * 64, nbytes
assert sum(array.nbytes for p in large.target.params() for array in p.update_rule.state.values()) == nbytes
assert sum(array.nbytes for group in large._groups for array in group._scratch) <= nbytes

# A file has the whole state, whoever writes it, and goes into both kinds.
file = io.BytesIO()
spread = train(optimizers.Adam, plain, always, steps=9)
if size > 1:
    try:
        save_npz(io.BytesIO(), spread)
    except ArgumentError as error:
        assert f"spread over {size} ranks, and rank {comm.rank} has only its own part" in str(error), error
    else:
        raise AssertionError("a part of the state was written")
spread.gather()
if comm.rank == 0:
    save_npz(file, spread)
file = io.BytesIO(comm.bcast_obj(file.getvalue()))
whole = train(optimizers.Adam, plain, never, steps=9)
for other in (train(optimizers.Adam, plain, shards, steps=n) for shards in (never, always) for n in (2, 7)):
    other.target.copyparams(whole.target)
    other.target.steps = 9
    file.seek(0)
    load_npz(file, other)
    assert other.t == 9
    again = train(optimizers.Adam, plain, never, steps=9)
    for optimizer in (other, again):
        for k in range(4):
            minibatch.announce(minibatch.Share(k, comm.rank * 4, 4, 4 * size))
            optimizer.update(optimizer.target, X[comm.rank * 4 :][:4], T[comm.rank * 4 :][:4])
        minibatch.announce(None)
    check_same(again, other, "loaded")
# One that does not fit changes nothing.
before = [array.copy() for p in spread.target.params() for array in (p.update_rule.state or {}).values()]
broken = np.load(io.BytesIO(file.getvalue()))
broken = {name: broken[name] for name in broken.files if name != "twice/W/t"}
try:
    distrain.serializers.NpzDeserializer(broken).load(spread)
except distrain.errors.MismatchError:
    pass
else:
    raise AssertionError("a file without a key was loaded")
after = [array for p in spread.target.params() for array in (p.update_rule.state or {}).values()]
for a, b in zip(before, after, strict=True):
    np.testing.assert_array_equal(a, b)

# What does not go together is refused.
if size > 1:
    for first, then in (
        (lambda o: o.shard_state(), lambda o: o.use_exchange("double")),
        (lambda o: o.use_exchange("double"), lambda o: o.shard_state()),
    ):
        optimizer = optimizers.SGD().setup(L.Linear(2, 2))
        first(optimizer)
        try:
            then(optimizer)
        except ArgumentError as error:
            assert "double buffering" in str(error), error
        else:
            raise AssertionError("double buffering was accepted")
    optimizer = optimizers.SGD().setup(L.Linear(2, 2))
    optimizer.shard_state(comm.rank > 0)
    try:
        optimizer.update(lambda: F.sum(optimizer.target(np.ones((1, 2), np.float32))))
    except WorldError as error:
        assert "state: sharded on rank 1, but whole on rank 0" in str(error), error
    else:
        raise AssertionError("different states were accepted")

# Slices begin at cache lines and leave nothing out.
for count in (0, 1, 15, 16, 100, 7333):
    for itemsize in (2, 4, 8):
        slices = [Spread(r, 3).slices(count, itemsize) for r in range(3)]
        assert slices[0] == slices[1] == slices[2]
        assert [a for a, _ in slices[0]] == [0, *[b for _, b in slices[0][:-1]]]
        assert slices[0][-1][1] == count
        assert all([a * itemsize % 64 == 0 for a, _ in slices[0]])
comm.barrier()
print("passed", flush=True)
