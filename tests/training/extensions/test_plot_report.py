from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from distrain import datasets, serializers
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator
from distrain.training import extensions
from distrain.training.extensions import plot, plot_report
from distrain.training.extensions.plot_report import Curve

KEYS = ["main/loss", "validation/main/loss"]


def make(make_digits_trainer, digits, stop=(4, "epoch"), **arguments):
    trainer = make_digits_trainer(stop, out=arguments.pop("out", None))
    model = trainer.updater.get_optimizer("main").target
    test = SerialIterator(datasets.SubDataset(digits[1], 0, 100), 100, repeat=False, shuffle=False)
    trainer.extend(extensions.Evaluator(test, model))
    trainer.extend(extensions.PlotReport(KEYS, **arguments), name="plot")
    trainer.extend(extensions.LogReport())
    trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
    return trainer


def points(trainer) -> dict:
    return {key: curve.points for key, curve in trainer.get_extension("plot")._curves.items()}


def test_plots_the_means_that_the_log_has(make_digits_trainer, digits):
    seen = []

    def look(figure, axes, means):
        seen.append([(line.get_label(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines])
        assert set(means) == set(KEYS)

    trainer = make(make_digits_trainer, digits, postprocess=look, filename="loss.png")
    trainer.run()
    log = trainer.get_extension("LogReport").log
    assert [label for label, _, _ in seen[-1]] == KEYS
    for label, x, y in seen[-1]:
        assert x == [entry["iteration"] for entry in log] == [3, 6, 9, 12]
        assert y == pytest.approx([entry[label] for entry in log])
    assert len(seen) == 2  # the first, and the last; in between it would have taken the training's time
    with Image.open(os.path.join(trainer.out, "loss.png")) as image:
        assert image.size == (700, 450)
        assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3).sum(1).tolist())) > 100  # not an empty page


@pytest.mark.parametrize("at", [2, 3, 7])
def test_continues_across_a_resume(make_digits_trainer, digits, tmp_path, at):
    whole = make(make_digits_trainer, digits)
    whole.run()
    resumed = make(make_digits_trainer, digits)
    serializers.load_npz(tmp_path / "result" / f"snapshot_iter_{at}", resumed)
    resumed.run()
    for key, curve in points(resumed).items():
        np.testing.assert_allclose(curve, points(whole)[key])
        assert len(curve) == 4


def test_other_axes_and_formats(make_digits_trainer, digits, tmp_path):
    for x_key, x in (("epoch", [1, 2]), ("main/loss", None)):
        trainer = make(make_digits_trainer, digits, (2, "epoch"), x_key=x_key, file_name=f"{x_key[:4]}.svg", grid=False)
        trainer.run()
        log = trainer.get_extension("LogReport").log
        found = points(trainer)["validation/main/loss"]
        assert [p[0] for p in found] == pytest.approx(x or [entry["main/loss"] for entry in log])
        assert (tmp_path / "result" / f"{x_key[:4]}.svg").read_text().startswith("<?xml")


def test_a_value_that_never_comes_is_no_curve(make_trainer):
    trainer = make_trainer((2, "iteration"))
    trainer.extend(extensions.PlotReport("nothing", trigger=(1, "iteration")))
    trainer.run()
    assert os.path.exists(os.path.join(trainer.out, "plot.png"))


def test_drawing_takes_little_of_the_time(make_trainer):
    drawn = []
    trainer = make_trainer((3000, "iteration"))
    report = extensions.PlotReport("x", trigger=(1, "iteration"), postprocess=lambda *_: drawn.append(time.monotonic()))
    trainer.extend(lambda trainer: trainer.observation.update(x=trainer.updater.iteration), name="o", priority=300)
    trainer.extend(report)
    trainer.run()
    assert len(drawn) <= 2 + trainer.elapsed_time / 0.5  # a picture takes at least 5 ms
    assert report._curves["x"].points[-1] == (3000, 3000)


def test_a_curve_keeps_some_thousand_points(monkeypatch):
    monkeypatch.setattr(plot_report, "_MOST", 100)
    curve = Curve()
    for x in range(1000):
        curve.add(x, 2 * x)
        if x == 777:
            text, curve = curve.to_json(), Curve()
            curve.from_json(text)
    assert 50 <= len(curve.points) < 100
    np.testing.assert_allclose(np.diff([x for x, _ in curve.points]), 16)
    assert all(y == 2 * x for x, y in curve.points)
    old = Curve()
    old.from_json("[[1, 0.5], [2, 0.25]]")  # as Chainer wrote it
    assert old.points == [(1, 0.5), (2, 0.25)]


def test_says_how_to_get_matplotlib(monkeypatch):
    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)
    assert not extensions.PlotReport.available()
    with pytest.raises(ArgumentError, match=r"PlotReport needs matplotlib: pip install 'distrain\[plot\]'"):
        extensions.PlotReport("x")


def test_matplotlib_is_imported_late_and_needs_no_display():
    code = """
import sys
from distrain.training import extensions
extensions.PlotReport("x")
assert "matplotlib" not in sys.modules
extensions.plot.new_figure(1, 1).savefig("/dev/null", format="png")
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLBACKEND")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


SCRIPT = """
import json, sys
import distrain.links as L
from distrain import comm, datasets, optimizers, serializers, set_seed, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

set_seed(5)
train = datasets.SubDataset(datasets.get_digits()[0], 0, 203)
optimizer = optimizers.SGD(0.1).setup(L.Classifier(L.Linear(64, 10)))
updater = training.StandardUpdater(SerialIterator(train, 50), optimizer)
trainer = training.Trainer(updater, (9, "iteration"), sys.argv[1])
trainer.extend(extensions.PlotReport("main/loss", trigger=(3, "iteration")), name="plot")
trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
if len(sys.argv) > 2:
    serializers.load_npz(sys.argv[2], trainer)
trainer.run()
comm.world().print(json.dumps(trainer.get_extension("plot")._curves["main/loss"].points))
"""


@pytest.mark.mpi
def test_the_curve_is_that_of_all_ranks(run_ranks, tmp_path):
    one, two = (json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n))).check().stdout) for n in (1, 2))
    args = (str(tmp_path / "resumed"), str(tmp_path / "2" / "snapshot_iter_4"))
    resumed = json.loads(run_ranks(SCRIPT, 2, *args).check().stdout)
    assert (tmp_path / "2" / "plot.png").exists()
    np.testing.assert_allclose(two, one, rtol=1e-5)
    np.testing.assert_allclose(resumed, one, rtol=1e-5)
