from __future__ import annotations

import pytest

from distrain import serializers
from distrain.errors import ArgumentError
from distrain.training import extensions, triggers

CASES = [
    # points, unit, samples, batch size, iterations at which it fires, of the first 12
    ([3, 1, 7], "iteration", 10, 1, [1, 3, 7]),
    (4, "iteration", 10, 1, [4]),
    ([2.5, 5], "iteration", 10, 1, [3, 5]),
    ([1, 1.5], "epoch", 4, 1, [4, 6]),
    ([1, 1.1], "epoch", 2, 1, [2, 3]),
    ([0.3], "epoch", 10, 1, [3]),
    ([1, 2, 3], "epoch", 1, 2, [1, 2]),  # two epochs a step: once
    ([], "iteration", 10, 1, []),
]


def train(make_trainer, trigger, samples, batch_size, last, resume=None, save=None):
    fired = []
    trainer = make_trainer((last, "iteration"), samples, batch_size)
    trainer.extend(lambda trainer: fired.append(trainer.updater.iteration), name="note", trigger=trigger)
    trainer.extend(extensions.snapshot(filename="state"), trigger=(save or 99, "iteration"))
    if resume:
        serializers.load_npz(resume, trainer)
    trainer.run()
    return fired, f"{trainer.out}/state"


@pytest.mark.parametrize(("points", "unit", "samples", "batch_size", "expected"), CASES)
def test_fires_at_the_points(make_trainer, points, unit, samples, batch_size, expected):
    trigger = triggers.ManualScheduleTrigger(points, unit)
    assert train(make_trainer, trigger, samples, batch_size, 12)[0] == expected


@pytest.mark.parametrize("at", [1, 3, 4, 6])
@pytest.mark.parametrize(("points", "unit", "samples", "batch_size", "expected"), CASES)
def test_fires_alike_across_a_resume(make_trainer, points, unit, samples, batch_size, expected, at):
    first, path = train(make_trainer, triggers.ManualScheduleTrigger(points, unit), samples, batch_size, at, save=at)
    rest, _ = train(make_trainer, triggers.ManualScheduleTrigger(points, unit), samples, batch_size, 12, path)
    assert first + rest == expected


@pytest.mark.parametrize("points", [0, [-1], [1, "two"], [True], [float("nan")]])
def test_points_are_positive_numbers(points):
    with pytest.raises(ArgumentError, match="must be a positive number of epochs"):
        triggers.ManualScheduleTrigger(points, "epoch")
