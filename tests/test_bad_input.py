"""What users get wrong: refused early, with the place and the next step, and nothing lost."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import datasets, iterators, serializers, training
from distrain.dataset import concat_examples
from distrain.training import extensions

TRAIN, TEST = datasets.get_digits()


class MLP(distrain.Chain):
    def __init__(self) -> None:
        super().__init__(l1=L.Linear(None, 50), l2=L.Linear(51, 10))

    def __call__(self, x: Any) -> Any:
        return self.l2(F.relu(self.l1(x)))


def trainer(out: Path, n_classes: int = 10, stop: Any = (20, "iteration")) -> training.Trainer:
    model = L.Classifier(L.Linear(64, n_classes))
    optimizer = distrain.optimizers.Adam().setup(model)
    return training.Trainer(training.StandardUpdater(iterators.SerialIterator(TRAIN, 100), optimizer), stop, out=out)


def truncated(folder: Path) -> Path:
    serializers.save_npz(folder / "whole.npz", L.Linear(64, 10))
    (folder / "half.npz").write_bytes((folder / "whole.npz").read_bytes()[:600])
    return folder / "half.npz"


def pickled(folder: Path) -> Path:
    np.savez(folder / "pickled.npz", W=np.array([{}], object), b=np.zeros(10, np.float32))
    return folder / "pickled.npz"


def load_into_another_model(folder: Path) -> None:
    serializers.save_npz(folder / "a.npz", L.Classifier(L.Linear(64, 10)))
    serializers.load_npz(folder / "a.npz", L.Classifier(distrain.Sequential(L.Linear(64, 10))))


CASES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "batch size 0": (lambda p: iterators.SerialIterator(TRAIN, 0), ValueError, "positive integer, not 0"),
    "batch size below 0": (lambda p: iterators.SerialIterator(TRAIN, -1), ValueError, "positive integer, not -1"),
    "empty dataset": (lambda p: iterators.SerialIterator([], 2), ValueError, "dataset .list. is empty"),
    "empty dataset, once": (lambda p: iterators.SerialIterator([], 2, repeat=False), ValueError, "is empty"),
    "mixed shapes": (
        lambda p: concat_examples([(np.zeros(3), 1), (np.zeros(4), 1)]),
        ValueError,
        r"example 1 of the batch has shape \(4,\), but example 0 .* \(3,\).*padding",
    ),
    "mixed dtypes": (
        lambda p: concat_examples([np.zeros(3, "f"), np.zeros(3, "d")]),
        ValueError,
        "example 1 of the batch has dtype float64, but example 0 of the batch has float32",
    ),
    "label out of range": (
        lambda p: trainer(p, n_classes=5).run(show_loop_exception_msg=False),
        ValueError,
        r"sample \d+ of the batch has label [5-9], but there are 5 classes",
    ),
    "wrong shapes between layers": (
        lambda p: L.Classifier(MLP())(*concat_examples(TRAIN[:4])),
        TypeError,
        r"linear(.|\n)*Expect: 51 (.|\n)*Actual: 50(.|\n)*In link: /predictor/l2$",
    ),
    "another model's file": (
        load_into_another_model,
        ValueError,
        r"missing in the file: 2\n *predictor/0/W\n *predictor/0/b\n *surplus in the file: 2\n *predictor/W",
    ),
    "truncated file": (lambda p: serializers.load_npz(truncated(p), L.Linear(64, 10)), ValueError, "truncated"),
    "pickled file": (
        lambda p: serializers.load_npz(pickled(p), L.Linear(64, 10)),
        ValueError,
        "'W' holds pickled objects, which are never unpickled",
    ),
    "unwritable out": (
        lambda p: trainer(Path("/proc/nowhere")).run(show_loop_exception_msg=False),
        ValueError,
        "'/proc/nowhere' cannot be written to.*Nothing has been trained",
    ),
    "unknown unit": (lambda p: trainer(p, stop=(1, "epochs")), ValueError, "the units are 'epoch', 'iteration'"),
    "no such GPU": (lambda p: distrain.cuda.get_device(99).use(), RuntimeError, "GPU.*(CuPy|CUDA|this process sees)"),
    "no such device": (lambda p: distrain.get_device("tpu"), RuntimeError, "'tpu' names no device"),
    "no model": (lambda p: distrain.optimizers.Adam().update(), ValueError, r"call optimizer.setup\(model\) first"),
    "misspelt switch": (lambda p: setattr(distrain.config, "trian", 0), ValueError, "no switch 'trian'"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tmp_path: Path) -> None:
    action, kind, message = CASES[name]
    with pytest.raises(kind) as caught:
        action(tmp_path)
    assert isinstance(caught.value, distrain.DistrainError)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_a_failed_load_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    link = L.Linear(64, 10)
    before = link.W.array.copy()
    for path in (truncated(tmp_path), pickled(tmp_path)):
        with pytest.raises(distrain.DistrainError):
            serializers.load_npz(path, link)
    np.testing.assert_array_equal(link.W.array, before)


def test_nan_loss_names_its_iteration_and_can_stop(tmp_path: Path) -> None:
    def poison(t: training.Trainer) -> None:
        if t.updater.iteration == 7:
            t.updater.get_optimizer("main").target.predictor.W.array[0, 0] = np.nan

    watched = trainer(tmp_path)
    watched.extend(poison)
    watched.extend(extensions.LogReport(trigger=(10, "iteration")))
    with pytest.warns(UserWarning, match="main/loss: NaN or infinite in iteration 8"):
        watched.run()

    stopping = trainer(tmp_path)
    stopping.extend(poison)
    stopping.extend(extensions.FailOnNonNumber())
    with warnings.catch_warnings(), pytest.raises(distrain.errors.NonFiniteError, match="after iteration [78]"):
        stopping.run(show_loop_exception_msg=False)
