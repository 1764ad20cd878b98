from __future__ import annotations

import os
import re
import sys

import pytest

from distrain import comm, training
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator
from distrain.training import extensions, output, triggers


@pytest.fixture(autouse=True)
def _dry(monkeypatch):
    monkeypatch.setenv("DISTRAIN_DRY_RUN", "1")


def run(trainer) -> None:
    with pytest.raises(SystemExit) as caught:
        trainer.run()
    assert caught.value.code == 0


def test_one_step_each_extension_once_and_a_summary(make_digits_trainer, digits, tmp_path, capsys):
    trainer = make_digits_trainer((20, "epoch"))
    calls = []

    class Noting(training.Extension):
        def initialize(self, trainer):
            calls.append("initialize")

        def __call__(self, trainer):
            calls.append("call")
            with open(os.path.join(trainer.out, "mine"), "w") as stream:
                stream.write("x")

        def finalize(self):
            calls.append("finalize")

    trainer.extend(Noting(), trigger=(7, "epoch"))
    test_iter = SerialIterator(digits[1], 100, repeat=False, shuffle=False)
    trainer.extend(extensions.Evaluator(test_iter, trainer.updater.get_optimizer("main").target))
    trainer.extend(extensions.LogReport())
    trainer.extend(extensions.PrintReport(["epoch", "main/loss"]))
    trainer.extend(extensions.RunRecord())  # has no trigger
    trainer.extend(extensions.snapshot(n_retains=1, autoload=True))
    trainer.extend(extensions.snapshot(filename="best"), trigger=triggers.MaxValueTrigger("validation/main/accuracy"))
    run(trainer)
    assert trainer.updater.iteration == 1
    assert calls == ["initialize", "call", "finalize"]
    assert os.listdir(tmp_path) == []
    assert trainer.out == str(tmp_path / "result")
    summary = capsys.readouterr().out.splitlines()[-1]
    names = [
        "the first step",
        "validation",
        "LogReport",
        "PrintReport",
        "_Snapshot",
        "_Snapshot_1",
        "a save",
        "reading it",
    ]
    for name in names:
        assert re.search(rf"[:,] {name} [\d.e-]+ s[,;]", summary), (name, summary)
    assert "RunRecord" not in summary
    assert re.search(r"the snapshot has 0\.\d+ MB; at most \d+ MB of host memory a rank\. Nothing was written", summary)


def test_what_is_in_out_stays_as_it_is(make_trainer):
    trainer = make_trainer()
    os.mkdir(trainer.out)
    with open(os.path.join(trainer.out, "log"), "w") as stream:
        stream.write("[]")
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    with output.claim(trainer.out, comm.local()):  # a training may be under way there
        run(trainer)
    assert os.listdir(trainer.out) == ["log"]
    with open(os.path.join(trainer.out, "log")) as stream:
        assert stream.read() == "[]"


def test_an_extension_that_fails_is_found(make_trainer, tmp_path):
    def fail(trainer):
        raise KeyError("nobody reports this")

    trainer = make_trainer()
    trainer.extend(fail, trigger=(1000, "epoch"))
    trainer.extend(extensions.snapshot(snapshot_on_error=True))
    with pytest.raises(KeyError, match="nobody reports this"):
        trainer.run(show_loop_exception_msg=False)
    assert os.listdir(tmp_path) == []


def test_state_that_cannot_be_saved_is_found(make_trainer, tmp_path):
    class Bad(training.Extension):
        trigger = None

        def serialize(self, serializer):
            serializer("state", [1, [2, 3]])

    trainer = make_trainer()
    trainer.extend(Bad())
    with pytest.raises(ValueError, match="only pickle could write"):
        trainer.run(show_loop_exception_msg=False)
    assert os.listdir(tmp_path) == []


def test_an_out_that_cannot_be_written_is_found(make_trainer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArgumentError, match="file/result' cannot be written to: Not a directory"):
        make_trainer(out=tmp_path / "file" / "result").run(show_loop_exception_msg=False)


def test_the_variable_is_checked(make_trainer, monkeypatch):
    monkeypatch.setenv("DISTRAIN_DRY_RUN", "yes")
    with pytest.raises(ArgumentError, match="DISTRAIN_DRY_RUN must be 0 or 1, not 'yes'"):
        make_trainer().run(show_loop_exception_msg=False)
    monkeypatch.setenv("DISTRAIN_DRY_RUN", "0")
    trainer = make_trainer()
    trainer.run()
    assert trainer.updater.iteration == 3


SCRIPT = """
import sys
import numpy as np
import distrain.functions as F
import distrain.links as L
from distrain import optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

model = L.Linear(2, 1)
optimizer = optimizers.SGD().setup(model)
x = np.ones((10, 2), np.float32)
updater = training.StandardUpdater(SerialIterator(x, 4), optimizer, loss_func=lambda x: F.mean(model(x)))
trainer = training.Trainer(updater, (9, "epoch"), out=sys.argv[1])
trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
trainer.run()
print("after the training")
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 2])
def test_distrain_run(mpi, tmp_path, n, monkeypatch):
    monkeypatch.delenv("DISTRAIN_DRY_RUN")
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "distrain_launch", "run", "-n", str(n), "--dry-run", str(tmp_path / "train.py")]
    result = mpi.run([*command, str(tmp_path / "out")]).check()
    assert result.stdout.startswith(f"dry run on {n} rank{'s' * (n > 1)} is complete: the first step ")
    assert "after the training" not in result.stdout
    assert os.listdir(tmp_path) == ["train.py"]
