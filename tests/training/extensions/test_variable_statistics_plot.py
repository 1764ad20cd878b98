from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

import distrain
import distrain.links as L
from distrain import serializers
from distrain.errors import ArgumentError
from distrain.training import extensions
from distrain.training.extensions import plot


def make(make_digits_trainer, last=6, **arguments):
    trainer = make_digits_trainer((last, "iteration"))
    model = trainer.updater.get_optimizer("main").target
    seen = []
    trainer.extend(lambda trainer: seen.append(model.predictor.l1.W.array.astype(float)), name="look")
    report = extensions.VariableStatisticsPlot(model.predictor, trigger=(3, "iteration"), **arguments)
    trainer.extend(report, name="plot")
    trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
    return trainer, report, seen


def test_statistics_and_picture(make_digits_trainer):
    trainer, report, seen = make(make_digits_trainer)
    trainer.run()
    names = list(report._variables)
    samples = np.array(report._samples)
    assert names == [f"predictor/{name}" for name in ("l1/W", "l1/b", "l2/W", "l2/b")]
    assert samples.shape == (6, 4, 2, 11)
    row = samples[:, names.index("predictor/l1/W"), 0]
    np.testing.assert_allclose(row[:, 0], [x.mean() for x in seen], atol=1e-7)
    np.testing.assert_allclose(row[:, 1], [x.std() for x in seen], rtol=1e-5)
    np.testing.assert_allclose(row[:, 2:], [np.percentile(x, extensions.variable_statistics_plot.SIGMAS) for x in seen])
    assert (samples[:, :, 1, 1] > 0).all()  # gradients spread
    with Image.open(os.path.join(trainer.out, "statistics.png")) as image:
        assert image.size == (1100, 940)
        assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3).sum(1).tolist())) > 100


def test_continues_across_a_resume(make_digits_trainer, tmp_path):
    trainer, whole, _ = make(make_digits_trainer)
    trainer.run()
    trainer, resumed, _ = make(make_digits_trainer)
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_4", trainer)
    trainer.run()
    assert resumed._iterations == whole._iterations == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(resumed._samples, whole._samples, rtol=1e-6)


def test_looks_ever_less_often(make_digits_trainer):
    trainer, report, _ = make(make_digits_trainer, 50, max_sample_size=8, report_grad=False, percentile_sigmas=50)
    trainer.run()
    assert report._iterations == [8, 16, 24, 32, 40, 48]
    assert np.array(report._samples).shape == (6, 4, 1, 3)


def test_targets(make_digits_trainer):
    x = distrain.Variable(np.ones((2, 3), np.float32), name="x")
    report = extensions.VariableStatisticsPlot([x, distrain.Variable(np.ones(2)), L.Linear(3, 2)])
    assert list(report._variables) == ["x", "variable 1", "W", "b"]
    with pytest.raises(ArgumentError, match="links and Variables, not 3"):
        extensions.VariableStatisticsPlot([3])
    with pytest.raises(ArgumentError, match="nothing to plot"):
        extensions.VariableStatisticsPlot(x, report_data=False, report_grad=False)


def test_says_how_to_get_matplotlib(monkeypatch):
    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)
    assert not extensions.VariableStatisticsPlot.available()
    with pytest.raises(ArgumentError, match=r"VariableStatisticsPlot needs matplotlib"):
        extensions.VariableStatisticsPlot(L.Linear(2, 2))
