from __future__ import annotations

import pytest

from distrain import serializers
from distrain.errors import ArgumentError
from distrain.training import extensions, triggers

CASES = [
    (lambda: triggers.OrTrigger((4, "iteration"), (5, "iteration")), [4, 5, 8, 10, 12]),
    (lambda: triggers.AndTrigger((4, "iteration"), (6, "iteration")), [12]),
    (lambda: triggers.AndTrigger((1, "epoch"), lambda trainer: trainer.updater.epoch != 2), [3, 9, 12]),
    (
        lambda: triggers.OrTrigger(triggers.OnceTrigger(), triggers.ManualScheduleTrigger([7, 9], "iteration")),
        [1, 7, 9],
    ),
    (lambda: triggers.OrTrigger((6, "iteration"), triggers.AndTrigger((2, "iteration"), (1, "epoch"))), [6, 12]),
]


def train(make_trainer, trigger, last, resume=None):
    fired = []
    trainer = make_trainer((last, "iteration"), samples=3)
    trainer.extend(lambda trainer: fired.append(trainer.updater.iteration), name="note", trigger=trigger)
    trainer.extend(extensions.snapshot(), trigger=(5, "iteration"))
    if resume:
        serializers.load_npz(resume, trainer)
    trainer.run()
    return fired


@pytest.mark.parametrize(("make", "expected"), CASES)
def test_fires_with_any_or_with_all_also_across_a_resume(make_trainer, tmp_path, make, expected):
    assert train(make_trainer, make(), 12) == expected
    resumed = train(make_trainer, make(), 12, tmp_path / "result" / "snapshot_iter_5")
    assert resumed == [i for i in expected if i > 5]


def test_stops_a_training_that_stays_stopped(make_trainer, tmp_path):
    def make():
        trainer = make_trainer(triggers.OrTrigger((5, "epoch"), (4, "iteration")))
        trainer.extend(extensions.snapshot(), trigger=(2, "iteration"))
        return trainer

    trainer = make()
    trainer.run()
    assert trainer.updater.iteration == 4
    again = make()
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_4", again)
    again.run()
    assert again.updater.iteration == 4


def test_needs_triggers_to_combine():
    with pytest.raises(ArgumentError, match="AndTrigger needs triggers to combine"):
        triggers.AndTrigger()
    with pytest.raises(ArgumentError, match="is no trigger"):
        triggers.OrTrigger(3)


def test_is_printed_with_its_parts():
    assert str(triggers.OrTrigger((1, "epoch"), triggers.ManualScheduleTrigger(3, "iteration"))) == (
        "OrTrigger(IntervalTrigger(1, 'epoch'), ManualScheduleTrigger([3], 'iteration'))"
    )
