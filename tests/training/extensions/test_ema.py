from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import datasets, serializers
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator
from distrain.training import extensions

EACH = (1, "iteration")


def make(make_digits_trainer, digits, last=6, decay=0.5):
    model = L.Classifier(distrain.Sequential(L.Linear(None, 20), L.BatchNormalization(20), F.relu, L.Linear(20, 10)))
    trainer = make_digits_trainer((last, "iteration"), model=model)
    average = extensions.ExponentialMovingAverage(model, decay)
    test = SerialIterator(datasets.SubDataset(digits[1], 0, 100), 100, repeat=False, shuffle=False)
    trainer.extend(average)
    trainer.extend(extensions.Evaluator(test, average.model), name="average", trigger=EACH)
    trainer.extend(extensions.LogReport(trigger=EACH))
    trainer.extend(extensions.snapshot(), trigger=EACH)
    return trainer, average


def test_follows_the_parameters(make_digits_trainer, digits):
    trainer, average = make(make_digits_trainer, digits)
    model = trainer.updater.get_optimizer("main").target
    seen = []
    trainer.extend(lambda trainer: seen.append(model.predictor[0].W.array.astype(float)), name="look")
    trainer.run()
    expected = seen[0]
    for t, W in enumerate(seen[1:], start=1):
        kept = min(0.5, (1 + t) / (10 + t))
        expected = kept * expected + (1 - kept) * W
    np.testing.assert_allclose(average.model.predictor[0].W.array, expected, rtol=1e-5, atol=1e-7)
    for (path, mine), (_, theirs) in zip(
        model.namedpersistents(), average.model.namedpersistents(), strict=True
    ):  # fmt: skip
        np.testing.assert_array_equal(mine, theirs, err_msg=path)
    losses = [entry["average/main/loss"] for entry in trainer.get_extension("LogReport").log]
    assert losses[-1] < losses[0]


def test_continues_across_a_resume(make_digits_trainer, digits, tmp_path):
    trainer, whole = make(make_digits_trainer, digits)
    trainer.run()
    trainer, resumed = make(make_digits_trainer, digits)
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_3", trainer)
    trainer.run()
    for (path, mine), (_, theirs) in zip(
        whole.model.namedparams(), resumed.model.namedparams(), strict=True
    ):  # fmt: skip
        np.testing.assert_array_equal(mine.array, theirs.array, err_msg=path)


def test_an_impossible_decay_is_refused():
    with pytest.raises(ArgumentError, match="less than 1, not 1"):
        extensions.ExponentialMovingAverage(L.Linear(1, 1), 1)
