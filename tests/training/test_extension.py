from __future__ import annotations

import pytest

from distrain import training
from distrain.errors import ArgumentError


def test_defaults():
    class Mine(training.Extension):
        def __call__(self, trainer):
            pass

    mine = Mine()
    assert (mine.trigger, mine.priority, mine.name, mine.default_name, mine.runs_on) == (
        (1, "iteration"), training.PRIORITY_READER, None, "Mine", "all",
    )  # fmt: skip


def test_priorities():
    assert (training.PRIORITY_WRITER, training.PRIORITY_EDITOR, training.PRIORITY_READER) == (300, 200, 100)


def test_call_must_be_defined(make_trainer):
    class Empty(training.Extension):
        pass

    trainer = make_trainer()
    trainer.extend(Empty())
    with pytest.raises(NotImplementedError, match="Empty does not define __call__"):
        trainer.run()


def test_make_extension_keeps_everything(make_trainer):
    calls = []

    @training.make_extension(
        trigger=(2, "iteration"), default_name="mine", priority=7, finalizer=lambda: calls.append("finalize"),
        initializer=lambda trainer: calls.append("initialize"), runs_on="rank0",
    )  # fmt: skip
    def extension(trainer):
        calls.append(trainer.updater.iteration)

    trainer = make_trainer((5, "iteration"))
    trainer.extend(extension)
    trainer.run()
    assert calls == ["initialize", 2, 4, "finalize"]
    assert trainer.get_extension("mine") is extension
    assert (extension.priority, extension.runs_on) == (7, "rank0")


def test_make_extension_on_error(make_trainer):
    calls = []

    @training.make_extension(trigger=(2, "iteration"), on_error=lambda trainer, error, tb: calls.append(str(error)))
    def extension(trainer):
        raise ValueError("here")

    trainer = make_trainer()
    trainer.extend(extension)
    with pytest.raises(ValueError, match="here"):
        trainer.run()
    assert calls == ["here"]


def test_unknown_ranks_are_refused():
    with pytest.raises(ArgumentError, match="runs_on must be 'rank0' or 'all', not 'rank1'"):
        training.make_extension(runs_on="rank1")(lambda trainer: None)
