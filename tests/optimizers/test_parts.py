from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import Variable, minibatch, optimizers
from distrain.errors import ArgumentError
from distrain.minibatch import Share
from distrain.optimizers.parts import bounds_of, count_samples, part_of
from distrain.reporting import Reporter, report

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
T = np.random.default_rng(1).integers(0, 3, 20).astype(np.int32)


def test_bounds() -> None:
    assert bounds_of(10, 4) == [(0, 2), (2, 5), (5, 7), (7, 10)]
    assert bounds_of(2, 4) == [(0, 1), (1, 2)]
    assert bounds_of(0, 4) == [(0, 0)]


def test_part_of_a_nest() -> None:
    x, v = np.arange(6).reshape(3, 2), Variable(np.arange(3.0))
    arguments = ((x, {"a": v, "n": 3}), [["first"], ["second"], ["third"]], np.float32(1), np.array(5), None, "text")
    (first, named), items, *rest = part_of(arguments, 1, 3, 3)
    np.testing.assert_array_equal(first, x[1:])
    np.testing.assert_array_equal(named["a"].array, [1.0, 2.0])
    assert named["n"] == 3
    assert items == [["second"], ["third"]]
    assert rest == list(arguments[2:])
    assert count_samples(arguments) == 3


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"3 samples .* shape \(4,\)"):
        part_of((np.ones(3), np.ones(4)), 0, 1, 3)
    with pytest.raises(ArgumentError, match=r"update\(model, x, t\)"):
        count_samples(((), {"n": 3}))


def trained(accumulate: int, loss_scale: float | None = None) -> tuple[Any, list[dict[str, Any]]]:
    distrain.set_seed(3)
    model = L.Classifier(distrain.Sequential(L.Linear(4, 9), F.relu, F.dropout, L.Linear(9, 3)))
    optimizer = optimizers.MomentumSGD(lr=0.1).setup(model, accumulate=accumulate)
    if loss_scale:
        optimizer.set_loss_scale(loss_scale)
    reporter, seen = Reporter(), []
    reporter.add_observer("main", model)
    for step in range(5):
        share = Share(step, 0, 20, 20)
        minibatch.announce(share)
        observation: dict[str, Any] = {}
        with reporter, reporter.scope(observation):
            optimizer.update(model, X, T)
        assert minibatch.current() is share
        seen.append({key: float(getattr(value, "array", value)) for key, value in observation.items()})
    return model, seen


@pytest.mark.parametrize("accumulate", [2, 4, 7, 99])
def test_parts_give_what_the_whole_gives(accumulate: int) -> None:
    model, seen = trained(1)
    other, also = trained(accumulate, loss_scale=8.0)
    for a, b in zip(model.params(), other.params(), strict=True):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-5, atol=1e-7)
    for step, same in zip(seen, also, strict=True):
        assert step.keys() == same.keys() == {"main/loss", "main/accuracy"}
        assert same == pytest.approx(step, rel=1e-5)


def test_one_part_at_a_time() -> None:
    lengths, optimizer = [], optimizers.SGD()
    model = L.Linear(4, 1)

    def loss(x: Any) -> Any:
        lengths.append(len(x))
        return F.sum(model(x))

    optimizer.setup(model, accumulate=3)
    optimizer.update(loss, X)
    assert lengths == [6, 7, 7]
    with pytest.raises(ArgumentError, match="at least 1, not 0"):
        optimizer.setup(model, accumulate=0)


def test_each_part_has_its_own_recurrent_state() -> None:
    def run(accumulate: int) -> Any:
        distrain.set_seed(1)
        model = L.LSTM(4, 5)
        optimizer = optimizers.SGD(lr=0.1).setup(model, accumulate=accumulate)
        for step in range(6):
            if step == 4:
                model.reset_state()
            minibatch.announce(Share(step, 0, 20, 20))
            optimizer.update(lambda x: F.sum(model(x)) / len(x), X + step)
        return model

    whole, parts = run(1), run(4)
    for a, b in zip(whole.params(), parts.params(), strict=True):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-5, atol=1e-6)


SCRIPT = """
import numpy as np
import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers
from distrain.datasets import TupleDataset
from distrain.iterators import SerialIterator

comm = distrain.comm.world()
rng = np.random.default_rng(0)
data = TupleDataset(rng.normal(size=(53, 4)).astype(np.float32), rng.integers(0, 3, 53).astype(np.int32))
weights = []
for accumulate, how in ((1, "direct"), (2, "direct"), (4, "buckets")):
    distrain.set_seed(3)
    model = L.Classifier(distrain.Sequential(L.Linear(4, 9), F.relu, F.dropout, L.Linear(9, 3)))
    optimizer = optimizers.Adam().setup(model, accumulate=accumulate)
    optimizer.use_exchange(how, bucket_bytes=64)
    iterator = SerialIterator(data, 10, seed=1)
    calls, channel = [], comm.channel
    allreduce = channel.allreduce
    channel.allreduce = lambda flat: (calls.append(len(flat)), allreduce(flat))
    for _ in range(11):
        optimizer.update(model, *distrain.dataset.concat_examples(next(iterator)))
    channel.allreduce = allreduce
    if how == "direct" and comm.size > 1:
        assert len(calls) == 11, calls      # nothing is exchanged between the parts
    weights.append(np.concatenate([p.array.ravel() for p in model.params()]))
for other in weights[1:]:
    np.testing.assert_allclose(other, weights[0], rtol=1e-4, atol=1e-6)
print("passed", flush=True)
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n", [2, 4])
def test_parts_on_several_ranks(run_ranks: Callable[..., Any], n: int) -> None:
    assert run_ranks(SCRIPT, n).check().stdout.count("passed") == n


def test_reports_outside_of_a_reporter_are_nothing() -> None:
    model = L.Linear(4, 1)

    def loss(x: Any) -> Any:
        report({"x": 1.0})
        return F.sum(model(x))

    optimizers.SGD().setup(model, accumulate=2).update(loss, X)
