from __future__ import annotations

import pytest

from distrain import serializers
from distrain.errors import ArgumentError
from distrain.training import triggers

CASES = [
    # period, unit, samples, batch size, iterations at which it fires, of the first 30
    (1, "iteration", 10, 1, list(range(1, 31))),
    (7, "iteration", 10, 3, [7, 14, 21, 28]),
    (2.5, "iteration", 10, 1, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30]),
    (1, "epoch", 10, 1, [10, 20, 30]),
    (1, "epoch", 10, 3, [4, 7, 10, 14, 17, 20, 24, 27, 30]),
    (2, "epoch", 10, 4, [5, 10, 15, 20, 25, 30]),
    (0.5, "epoch", 10, 1, [5, 10, 15, 20, 25, 30]),
    (0.1, "epoch", 10, 1, list(range(1, 31))),  # 0.3 // 0.1 is 2.0
    (0.1, "epoch", 100, 2, [5, 10, 15, 20, 25, 30]),
    (0.3, "epoch", 10, 1, [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]),
    (1 / 3, "epoch", 9, 1, [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]),
    (1, "epoch", 2, 5, list(range(1, 31))),  # several epochs a step: once
    (0.25, "epoch", 10, 6, list(range(1, 31))),  # several intervals a step: once
]


def fired(trainer, trigger, first: int, last: int) -> list[int]:
    iterations = []
    for iteration in range(first, last + 1):
        trainer.updater.update()
        if trigger(trainer):
            iterations.append(iteration)
    return iterations


@pytest.mark.parametrize(("period", "unit", "samples", "batch_size", "expected"), CASES)
def test_fires_after_each_interval(make_trainer, period, unit, samples, batch_size, expected):
    trainer = make_trainer(None, samples, batch_size)
    assert fired(trainer, triggers.IntervalTrigger(period, unit), 1, 30) == expected


@pytest.mark.parametrize("resumed_at", [1, 4, 5, 10, 13, 29])
@pytest.mark.parametrize(("period", "unit", "samples", "batch_size", "expected"), CASES)
def test_fires_alike_across_a_resume(make_trainer, tmp_path, period, unit, samples, batch_size, expected, resumed_at):
    before = make_trainer(None, samples, batch_size)
    trigger = triggers.IntervalTrigger(period, unit)
    iterations = fired(before, trigger, 1, resumed_at)
    serializers.save_npz(tmp_path / "updater", before.updater)
    serializers.save_npz(tmp_path / "trigger", trigger)

    after = make_trainer(None, samples, batch_size)
    loaded = triggers.IntervalTrigger(period, unit)
    serializers.load_npz(tmp_path / "updater", after.updater)
    serializers.load_npz(tmp_path / "trigger", loaded)
    assert iterations + fired(after, loaded, resumed_at + 1, 30) == expected


@pytest.mark.parametrize(("period", "unit", "samples", "batch_size", "expected"), CASES)
def test_fires_alike_when_it_is_new_after_a_resume(make_trainer, tmp_path, period, unit, samples, batch_size, expected):
    before = make_trainer(None, samples, batch_size)
    fired(before, triggers.IntervalTrigger(1, "epoch"), 1, 13)
    serializers.save_npz(tmp_path / "updater", before.updater)
    after = make_trainer(None, samples, batch_size)
    serializers.load_npz(tmp_path / "updater", after.updater)
    new = fired(after, triggers.IntervalTrigger(period, unit), 14, 30)
    assert new == [iteration for iteration in expected if iteration > 13]


def test_makes_up_for_an_interval_that_ended_while_nobody_asked(make_trainer):
    trainer = make_trainer()
    trigger = triggers.IntervalTrigger(3, "iteration")
    trainer.updater.update()
    assert not trigger(trainer)
    for _ in range(4):
        trainer.updater.update()
    assert trigger(trainer)
    assert not trigger(trainer)


def test_is_not_over_before_the_first_interval(make_trainer):
    trainer = make_trainer()
    trigger = triggers.IntervalTrigger(2, "iteration")
    assert [trigger.is_over(trainer) or trainer.updater.update() for _ in range(3)] == [None, None, True]


def test_units_are_listed():
    with pytest.raises(ArgumentError, match="unknown trigger unit 'epochs'; the units are 'epoch', 'iteration'"):
        triggers.IntervalTrigger(1, "epochs")


@pytest.mark.parametrize("period", [0, -1, float("nan"), float("inf"), "one", None, True])
def test_period_must_be_positive(period):
    with pytest.raises(ArgumentError, match="must be a positive number of iterations"):
        triggers.IntervalTrigger(period, "iteration")
