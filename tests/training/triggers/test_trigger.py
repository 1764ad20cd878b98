from __future__ import annotations

import pytest

from distrain.errors import ArgumentError
from distrain.training import get_trigger
from distrain.training.triggers import IntervalTrigger


def test_tuple_is_an_interval():
    trigger = get_trigger((0.5, "epoch"))
    assert isinstance(trigger, IntervalTrigger)
    assert trigger.get_training_length() == (0.5, "epoch")


def test_function_is_a_trigger():
    def every_time(trainer):
        return True

    assert get_trigger(every_time) is every_time


def test_none_never_fires(make_trainer):
    trainer = make_trainer()
    assert not get_trigger(None)(trainer)


@pytest.mark.parametrize("trigger", [10, "epoch", (10,), (1, "epoch", 2)])
def test_anything_else_is_refused(trigger):
    with pytest.raises(ArgumentError, match="is no trigger"):
        get_trigger(trigger)


def test_unknown_unit_is_refused_when_the_trainer_is_made(make_trainer):
    with pytest.raises(ArgumentError, match="'epoch', 'iteration'"):
        make_trainer((20, "epochs"))
