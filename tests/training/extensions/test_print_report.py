from __future__ import annotations

import io

import pytest

from distrain import serializers, training
from distrain.errors import ArgumentError
from distrain.training import extensions


@training.make_extension(priority=training.PRIORITY_WRITER)
def write(trainer):
    n = trainer.updater.iteration
    trainer.observation["main/loss"] = 1 / n
    trainer.observation["a/rather/long/name"] = n * 1e6
    if n % 2 == 0:
        trainer.observation["sometimes"] = n


def trained(make_trainer, entries, iterations=3, samples=10, **kwargs):
    out = io.StringIO()
    trainer = make_trainer((iterations, "iteration"), samples=samples)
    trainer.extend(write)
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    trainer.extend(extensions.PrintReport(entries, out=out, **kwargs))
    trainer.run()
    return out.getvalue()


def test_table(make_trainer):
    assert trained(make_trainer, ["iteration", "main/loss", "a/rather/long/name", "sometimes"]) == (
        "iteration   main/loss   a/rather/long/name  sometimes \n"
        "1           1           1e+06                           \n"
        "2           0.5         2e+06               2           \n"
        "3           0.333333    3e+06                           \n"
    )


def test_rows_come_when_the_log_has_them(make_trainer):
    out = io.StringIO()
    lines = []
    trainer = make_trainer((5, "iteration"))
    trainer.extend(extensions.LogReport(trigger=(2, "iteration")))
    trainer.extend(extensions.PrintReport(["iteration"], out=out))
    trainer.extend(lambda trainer: lines.append(out.getvalue().count("\n")), name="count")
    trainer.run()
    assert lines == [1, 2, 2, 3, 3]


def test_a_name_that_never_comes_is_blank_and_said_once(make_trainer):
    expected = r"no value for 'main/los' so far .* the log has 'main/loss', .*'elapsed_time'"
    with pytest.warns(UserWarning, match=expected) as caught:
        table = trained(make_trainer, ["iteration", "main/los", "main/loss"], samples=1)
    assert len(caught) == 1
    assert table.splitlines()[2] == "2                       0.5         "


def test_a_training_shorter_than_an_epoch_says_so_at_its_end(make_trainer):
    with pytest.warns(UserWarning, match="no value for 'main/los'"):
        trained(make_trainer, ["main/los"], samples=100)


def test_what_comes_with_the_first_epoch_is_not_missed(make_trainer):
    out = io.StringIO()
    trainer = make_trainer((4, "iteration"), samples=4)
    trainer.extend(lambda t: t.observation.update(late=1), name="late", trigger=(1, "epoch"), priority=300)
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    trainer.extend(extensions.PrintReport(["iteration", "late"], out=out))
    trainer.run()
    assert out.getvalue().splitlines()[-1].split() == ["4", "1"]


def test_a_log_of_its_own(make_trainer, tmp_path):
    def make(iterations):
        out = io.StringIO()
        trainer = make_trainer((iterations, "iteration"))
        trainer.extend(write)
        report = extensions.LogReport(trigger=(2, "iteration"), filename=None)
        trainer.extend(extensions.PrintReport(["iteration", "main/loss"], report, out))
        return trainer, out

    trainer, out = make(3)
    trainer.run()
    assert [line.split() for line in out.getvalue().splitlines()] == [["iteration", "main/loss"], ["2", "0.75"]]
    serializers.save_npz(tmp_path / "snapshot", trainer)
    trainer, out = make(4)
    serializers.load_npz(tmp_path / "snapshot", trainer)
    trainer.run()
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["iteration", "2", "4"]


def test_prints_to_standard_output(make_trainer, capsys):
    trainer = make_trainer((1, "iteration"))
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    trainer.extend(extensions.PrintReport(["iteration"]))
    trainer.run()
    assert capsys.readouterr().out == "iteration \n1           \n"


def test_a_log_report_of_another_name_is_looked_for(make_trainer):
    with pytest.raises(ArgumentError, match="no extension 'other'; registered are 'write', 'LogReport'"):
        trained(make_trainer, ["iteration"], log_report="other")
    with pytest.raises(ArgumentError, match="the name of a LogReport or a LogReport, not 3"):
        extensions.PrintReport(["iteration"], log_report=3)


@pytest.mark.mpi
def test_rank_0_prints(run_ranks, tmp_path):
    script = """
import sys
import numpy as np
import distrain.links as L
from distrain import optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

class Counting(training.StandardUpdater):
    def update_core(self):
        next(self.get_iterator("main"))

iterator = SerialIterator(np.zeros((4, 2), np.float32), 2)
trainer = training.Trainer(Counting(iterator, optimizers.SGD().setup(L.Linear(2, 1))), (2, "epoch"), out=sys.argv[1])
trainer.extend(extensions.LogReport())
trainer.extend(extensions.PrintReport(["epoch", "iteration"]))
trainer.extend(extensions.PrintReport(["epoch"], extensions.LogReport(filename=None)))
trainer.run()
"""
    out = run_ranks(script, 2, str(tmp_path / "out")).check().stdout
    assert [line.split() for line in out.splitlines()] == [
        ["epoch", "iteration"], ["epoch"], ["1", "2"], ["1"], ["2", "4"], ["2"],
    ]  # fmt: skip
