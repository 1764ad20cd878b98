from __future__ import annotations

import pytest

from distrain import serializers
from distrain.training import extensions, triggers


def train(make_trainer, last, resume=None, **arguments):
    fired = []
    trainer = make_trainer((last, "iteration"))
    trainer.extend(
        lambda trainer: fired.append(trainer.updater.iteration), name="note", trigger=triggers.OnceTrigger(**arguments)
    )
    trainer.extend(extensions.snapshot(), trigger=(2, "iteration"))
    if resume:
        serializers.load_npz(resume, trainer)
    trainer.run()
    return fired, f"{trainer.out}/snapshot_iter_2"


@pytest.mark.parametrize(("arguments", "after"), [({}, []), ({"call_on_resume": True}, [3])])
def test_fires_once_and_after_a_resume_if_told_to(make_trainer, arguments, after):
    fired, path = train(make_trainer, 4, **arguments)
    assert fired == [1]
    assert train(make_trainer, 5, path, **arguments)[0] == after
