from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
import distrain.links as L
from distrain import config, optimizers, training
from distrain.datasets import TupleDataset
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator
from distrain.training import extensions


def area_under_curve(scores, labels):
    """The part of the pairs of a positive and a negative sample that the scores put in order."""
    higher = scores[labels == 1][:, None] > scores[labels == 0]
    return {"auc": higher.mean()}


def data(n: int) -> TupleDataset:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return TupleDataset(x, (x[:, 0] + rng.normal(size=n) > 0).astype(np.int32))


def once(dataset, batch_size: int, **kwargs) -> SerialIterator:
    return SerialIterator(dataset, batch_size, repeat=False, shuffle=False, **kwargs)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize("form", [tuple, dict])
def test_metrics_of_all_rows_in_order(batch_size, form):
    dataset, model = data(40), L.Linear(3, 1)
    seen = []

    def predict(x, t):
        assert not config.train
        scores = model(x)[:, 0]
        return (scores, t) if form is tuple else {"labels": t, "scores": scores}

    def metrics(scores, labels):
        seen.append((scores, labels))
        return area_under_curve(scores, labels)

    found = extensions.PredictionEvaluator(once(dataset, batch_size), model, predict, metrics)()
    x, t = dataset[:40] if isinstance(dataset[:40], tuple) else (np.array(c) for c in zip(*dataset[:40], strict=True))
    np.testing.assert_array_equal(seen[0][1], t)
    np.testing.assert_allclose(seen[0][0], model(x).array[:, 0], rtol=1e-5)
    assert found == {"main/auc": pytest.approx(area_under_curve(model(x).array[:, 0], t)["auc"])}


def test_it_stands_in_the_log_of_a_training(tmp_path):
    model = L.Classifier(L.Linear(3, 2))
    updater = training.StandardUpdater(SerialIterator(data(50), 10), optimizers.Adam(0.1).setup(model))
    trainer = training.Trainer(updater, (3, "epoch"), out=tmp_path)

    def predict(x, t):
        y = model.predictor(x)
        return y[:, 1] - y[:, 0], t

    trainer.extend(extensions.PredictionEvaluator(once(data(40), 7), model, predict, area_under_curve))
    trainer.extend(extensions.LogReport())
    trainer.run()
    found = [entry["validation/main/auc"] for entry in trainer.get_extension("LogReport").log]
    assert len(found) == 3
    assert found[-1] > 0.7


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x, t: F.sum(x), "a row for each of 7 samples; output 0 is of shape ()"),
        (lambda x, t: (x, t[1:]), "output 1 is of shape (6,)"),
        (lambda x, t: "seven", "output 0 is 'str'"),
    ],
)
def test_predictions_that_are_no_rows(returned, message):
    evaluator = extensions.PredictionEvaluator(once(data(40), 7), L.Linear(3, 1), returned, lambda *columns: {})
    with pytest.raises(ArgumentError) as caught:
        evaluator()
    assert message in str(caught.value)


@pytest.mark.parametrize("returned", [None, {"auc": "high"}, {"auc": np.ones(2)}])
def test_metrics_that_are_no_numbers(returned):
    evaluator = extensions.PredictionEvaluator(once(data(9), 4), L.Linear(3, 1), lambda x, t: x, lambda x: returned)
    with pytest.raises(ArgumentError, match="metrics must return numbers by name"):
        evaluator()


@pytest.mark.mpi
@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_same_on_several_ranks(run_ranks, n):
    script = """
import numpy as np
import distrain.links as L
from distrain import comm
from distrain.iterators import SerialIterator
from distrain.training import extensions

world = comm.world()

def metrics(x):
    assert world.rank == 0
    assert x.shape == (samples, 2), x.shape
    return {"in_order": (x[:, 0] == np.arange(samples)).all(), "sum": x[:, 1].sum()}

for samples in (1, 3, 10, 23):
    rows = np.stack([np.arange(samples), np.full(samples, 2)], 1).astype(np.float32)
    for batch_size in (1, 3, 8, 100):
        iterator = SerialIterator(rows, batch_size, repeat=False, shuffle=False, comm=world)
        found = extensions.PredictionEvaluator(iterator, L.Linear(2, 1), lambda x: x, metrics)()
        assert found == {"main/in_order": 1.0, "main/sum": 2.0 * samples}, (samples, batch_size, found)
own = np.stack([[world.rank], [0]], 1).astype(np.float32)
samples = world.size
iterator = SerialIterator(own, 4, repeat=False, shuffle=False, comm=comm.local())
assert extensions.PredictionEvaluator(iterator, L.Linear(2, 1), lambda x: x, metrics)()["main/in_order"] == 1.0
print("passed", flush=True)
"""
    result = run_ranks(script, n, env={"PYTHONWARNINGS": "ignore"}).check()
    assert result.stdout.count("passed") == n
