from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import minibatch, optimizers, reproducible
from distrain.datasets import TupleDataset
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator
from distrain.minibatch import Share
from distrain.optimizers import UpdateRule
from distrain.reporting import Reporter, report


@pytest.fixture(autouse=True)
def _off_afterwards() -> Iterator[None]:
    yield
    reproducible._Job.shards = None


@pytest.mark.parametrize(("text", "shards"), [("", 0), ("0", 0), ("1", 8), ("2", 2), ("16", 16)])
def test_the_variable(monkeypatch: pytest.MonkeyPatch, text: str, shards: int) -> None:
    monkeypatch.setenv("DISTRAIN_REPRODUCIBLE", text)
    reproducible._Job.shards = None
    assert reproducible.shards() == shards


def test_values_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ArgumentError, match="positive integer"):
            distrain.set_reproducible(shards=wrong)  # type: ignore[arg-type]
    monkeypatch.setenv("DISTRAIN_REPRODUCIBLE", "yes")
    reproducible._Job.shards = None
    with pytest.raises(ArgumentError, match="'yes'"):
        reproducible.shards()


def test_it_is_switched_on_and_off_and_limits_blas() -> None:
    from threadpoolctl import threadpool_info

    distrain.set_reproducible(shards=4)
    assert reproducible.shards() == 4
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
    distrain.set_reproducible(False)
    assert reproducible.shards() == 0


X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def test_gradients_and_reports_are_those_of_the_minibatch() -> None:
    model = L.Linear(4, 2, initialW=0.5)
    norm = L.BatchNormalization(4)
    chain = distrain.Chain()
    with chain.init_scope():
        chain.model, chain.norm = model, norm
        chain.unused = L.Linear(3, 3)
    optimizer = optimizers.SGD(lr=0.0).setup(chain)
    distrain.set_reproducible()
    minibatch.announce(Share(0, 0, 30, 30))

    def loss(x: Any) -> Any:
        report({"mean": float(x.mean()), "only": 1.0} if len(x) == 4 else {"mean": float(x.mean())})
        norm(x)
        return F.sum(model(x)) / len(x)

    observation: dict[str, Any] = {}
    reporter = Reporter()
    with reporter, reporter.scope(observation):
        optimizer.update(loss, X)
    np.testing.assert_allclose(model.W.grad, np.tile(X.mean(axis=0), (2, 1)), rtol=1e-5, atol=1e-6)
    assert chain.unused.W.grad is None
    assert observation == {"mean": pytest.approx(float(X.mean()), rel=1e-5), "only": 1.0}
    np.testing.assert_allclose(norm.avg_mean, 0.1 * X.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_fewer_samples_than_shards() -> None:
    model = L.Linear(4, 1)
    optimizer = optimizers.SGD(lr=0.0).setup(model)
    distrain.set_reproducible()
    for step in range(2):
        minibatch.announce(Share(step, 0, 3, 3))
        optimizer.update(lambda x: F.sum(model(x)) / len(x), X[:3])
        np.testing.assert_allclose(model.W.grad, X[:3].mean(axis=0, keepdims=True), rtol=1e-5, atol=1e-6)


def test_float16_and_parameters_outside_of_flat_arrays() -> None:
    class Plain(UpdateRule):
        def update_core(self, param: Any) -> None:
            param.array -= param.grad

    model = distrain.Chain()
    with model.init_scope():
        model.half = distrain.Parameter(np.ones(4, np.float16))
        model.loose = distrain.Parameter(np.ones(4, np.float32))
    optimizer = optimizers.SGD(lr=0.0).setup(model)
    model.loose.update_rule = Plain()
    distrain.set_reproducible()
    x = X.astype(np.float16)
    minibatch.announce(Share(0, 0, 30, 30))

    def loss(x: Any) -> Any:
        total = F.sum(F.matmul(x, model.half.reshape(4, 1))) / len(x)
        return F.cast(total, np.float32) + F.sum(F.matmul(F.cast(x, np.float32), model.loose.reshape(4, 1))) / len(x)

    optimizer.update(loss, x)
    expected = x.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(model.half.grad, expected, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(model.loose.grad, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.loose.array, 1 - expected, rtol=1e-5)


def test_what_cannot_be_reproduced_is_refused() -> None:
    model = L.Linear(4, 1)
    optimizer = optimizers.SGD().setup(model)
    distrain.set_reproducible()
    F.sum(model(X)).backward()
    with pytest.raises(ArgumentError, match=r"call optimizer.update\(model, x, t\)"):
        optimizer.update()
    with pytest.raises(ArgumentError, match="iterator of distrain"):
        optimizer.update(lambda x: F.sum(model(x)), X)
    iterator = SerialIterator(TupleDataset(X, X), 10)
    next(iterator)
    with pytest.raises(ArgumentError, match="function without arguments"):
        optimizer.update(lambda: F.sum(model(X)))
