from __future__ import annotations

import numpy as np
import pytest

from distrain.errors import NonFiniteError
from distrain.training import extensions


def spoil(trainer, iteration, function):
    trainer.extend(
        lambda trainer: function() if trainer.updater.iteration == iteration else None, name="spoil", priority=300
    )


def test_good_numbers_pass(make_digits_trainer):
    trainer = make_digits_trainer((3, "iteration"))
    trainer.extend(extensions.FailOnNonNumber())
    trainer.extend(lambda trainer: trainer.observation.update(s="nan", v=np.array([np.nan])), name="x", priority=300)
    trainer.run()
    assert trainer.updater.iteration == 3


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), np.float32("inf"), np.array(np.nan, np.float16)])
def test_a_reported_value(make_digits_trainer, value):
    trainer = make_digits_trainer((5, "iteration"))
    trainer.extend(extensions.FailOnNonNumber())
    spoil(trainer, 2, lambda: trainer.observation.update({"main/grad": value}))
    with pytest.raises(NonFiniteError, match=r"main/grad is (nan|-?inf) after iteration 2\. Lower the learning rate"):
        trainer.run()


def test_a_parameter(make_digits_trainer):
    trainer = make_digits_trainer((5, "iteration"))
    trainer.extend(extensions.FailOnNonNumber())
    bias = trainer.updater.get_optimizer("main").target.predictor.l2.b
    spoil(trainer, 3, lambda: bias.array.__setitem__(slice(4), np.nan))
    expected = "the parameter main/predictor/l2/b has 4 of 10 values that are NaN or infinite after iteration 3"
    with pytest.raises(NonFiniteError, match=expected):
        trainer.run()
    assert trainer.updater.iteration == 3
