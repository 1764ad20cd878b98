from __future__ import annotations

import math

import pytest

from distrain import serializers, training
from distrain.errors import ArgumentError
from distrain.training import extensions, triggers

EACH = (1, "iteration")


def train(make_trainer, values, resume=None, key="x", **arguments):
    """The trainer after a training with these values; a snapshot of every iteration is left in `result`."""

    @training.make_extension(priority=training.PRIORITY_WRITER)
    def observe(trainer):
        value = values[trainer.updater.iteration - 1]
        if value is not None:
            trainer.observation[key] = value

    arguments = {"check_trigger": EACH, "monitor": key, "max_trigger": (len(values), "iteration"), **arguments}
    trainer = make_trainer(triggers.EarlyStoppingTrigger(**arguments), samples=2)
    trainer.extend(observe)
    trainer.extend(extensions.snapshot(), trigger=EACH)
    if resume:
        serializers.load_npz(resume, trainer)
    trainer.run()
    return trainer


CASES = [
    # values, arguments, the last iteration
    ([5, 4, 3, 2, 1], {}, 5),
    ([5, 4, 4, 4, 4, 1], {}, 5),
    ([5, 4, 4, 4, 1, 1, 1, 1], {}, 8),
    ([5, 4, 4, 1], {"patience": 1}, 3),
    ([5, 4, 4, 1], {"patients": 1}, 3),
    ([5, 6, 7, 8, 9], {"mode": "max"}, 5),
    ([5, 6, 7, 8, 9], {}, 4),
    ([5, 6, 7, 7, 6, 7, 9], {"key": "main/accuracy"}, 6),
    ([math.nan, 5, math.nan, math.nan, 4, math.nan, math.nan, math.nan, 1], {}, 8),
    ([math.nan] * 5, {}, 3),
    ([4, 8, 5, 5, 1, 11, 7, 5, 1], {"check_trigger": (2, "iteration"), "patience": 1}, 6),
    ([4, 8, 5, 5, 1, 11, 7, 5, 1], {"check_trigger": (1, "epoch"), "patience": 1}, 6),
    ([4, None, 5, 5, None, 5, 0], {"patience": 3}, 6),
]


@pytest.mark.parametrize(("values", "arguments", "last"), CASES)
def test_stops_when_nothing_gets_better(make_trainer, values, arguments, last):
    assert train(make_trainer, values, **arguments).updater.iteration == last


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize(("values", "arguments", "last"), CASES)
def test_stops_alike_across_a_resume(make_trainer, tmp_path, values, arguments, last, at):
    train(make_trainer, values, **arguments)
    resumed = train(make_trainer, values, tmp_path / "result" / f"snapshot_iter_{at}", **arguments)
    assert resumed.updater.iteration == last


def test_a_training_that_was_stopped_stays_stopped(make_trainer, tmp_path):
    train(make_trainer, [5, 6, 7, 8, 1])
    again = train(make_trainer, [5, 6, 7, 8, 1], tmp_path / "result" / "snapshot_iter_4")
    assert again.updater.iteration == 4
    assert again.stop_trigger.best == 5
    assert again.stop_trigger.count == 3


def test_says_why(make_trainer, capsys):
    train(make_trainer, [5, 4, 4, 4, 4, 4], verbose=True)
    assert capsys.readouterr().out == "early stopping at epoch 2, iteration 5: x was best at 4, 3 checks ago\n"


def test_warns_of_a_value_that_never_comes(make_trainer):
    message = "EarlyStoppingTrigger waits for 'z'.* of iteration 1 has 'x'"
    with pytest.warns(UserWarning, match=message) as caught:
        train(make_trainer, [1, 2, 3], monitor="z")
    assert len(caught) == 1


def test_its_length_is_the_longest(make_trainer):
    assert triggers.EarlyStoppingTrigger().get_training_length() == (100, "epoch")
    trigger = triggers.EarlyStoppingTrigger(max_trigger=triggers.TimeTrigger(3))
    assert trigger.get_training_length() is None
    trainer = make_trainer(triggers.OrTrigger(trigger, (2, "iteration")))
    trainer.extend(extensions.ProgressBar())
    trainer.run()
    assert trainer.get_extension("ProgressBar")._pace.length == (2, "iteration")


def test_real_training_stops_when_the_validation_gets_worse(make_digits_trainer, digits):
    """A model that learns 60 samples by heart gets better on them, but not on others."""
    from distrain import datasets
    from distrain.iterators import SerialIterator

    stop = triggers.EarlyStoppingTrigger(monitor="validation/main/loss", patience=2, max_trigger=(200, "epoch"))
    trainer = make_digits_trainer(stop, 30, samples=60)
    model = trainer.updater.get_optimizer("main").target
    test = SerialIterator(datasets.SubDataset(digits[1], 0, 100), 100, repeat=False, shuffle=False)
    trainer.extend(extensions.Evaluator(test, model))
    trainer.extend(extensions.LogReport())
    trainer.updater.get_optimizer("main").alpha = 0.05
    trainer.run()
    losses = [entry["validation/main/loss"] for entry in trainer.get_extension("LogReport").log]
    assert 3 <= len(losses) < 200
    assert min(losses) == pytest.approx(losses[-3]) == pytest.approx(stop.best)


def test_impossible_arguments_are_refused():
    with pytest.raises(ArgumentError, match="one of 'auto', 'min', 'max', not 'best'"):
        triggers.EarlyStoppingTrigger(mode="best")
    with pytest.raises(ArgumentError, match="at least 1 check, not 0"):
        triggers.EarlyStoppingTrigger(patience=0)
