from __future__ import annotations

import json
import time

import pytest

from distrain import serializers
from distrain.errors import ArgumentError
from distrain.training import extensions, triggers


def test_fires_once_a_period(make_trainer):
    fired = []
    trainer = make_trainer(triggers.TimeTrigger(0.7))
    trainer.extend(lambda trainer: time.sleep(0.002), name="work")
    trainer.extend(
        lambda trainer: fired.append(trainer.elapsed_time), name="note", trigger=triggers.TimeTrigger(0.1), priority=1
    )
    trainer.run()
    assert trainer.elapsed_time >= 0.7
    assert fired[0] >= 0.1
    assert 1 <= len(fired) <= trainer.elapsed_time / 0.1  # a slow machine may leave some out


def test_a_long_iteration_counts_once(make_trainer):
    fired = []
    trainer = make_trainer((4, "iteration"))
    trainer.extend(lambda trainer: time.sleep(1.2 * (trainer.updater.iteration == 1)), name="work")
    note = lambda trainer: fired.append(trainer.updater.iteration)  # noqa: E731
    trainer.extend(note, name="note", trigger=triggers.TimeTrigger(0.5), priority=1)
    trainer.run()
    assert fired[0] == 1
    assert len(fired) <= 2


def test_a_resume_does_not_start_the_clock_anew(make_trainer, tmp_path):
    def make():
        trainer = make_trainer(triggers.OrTrigger(triggers.TimeTrigger(60), (2, "iteration")))
        trainer.extend(lambda trainer: fired.append(trainer.updater.iteration), name="note", trigger=note)
        trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
        return trainer

    fired: list[int] = []
    note = triggers.TimeTrigger(50)
    first = make()
    first._snapshot_elapsed_time = 55.0  # as if it had been resumed once already
    first.run()
    assert fired == [1]
    note = triggers.TimeTrigger(50)
    second = make()
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_1", second)
    second.run()
    assert fired == [1]
    assert second.elapsed_time > 55

    third = make()
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_1", third)
    third._snapshot_elapsed_time = 61.0
    third.run()
    assert third.updater.iteration == 1  # its time was over


def test_the_period_is_a_positive_number():
    with pytest.raises(ArgumentError, match="a positive number of seconds, not 0"):
        triggers.TimeTrigger(0)


SCRIPT = """
import json, sys, time
import numpy as np
import distrain.links as L
from distrain import comm, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import triggers

world = comm.world()
optimizer = optimizers.SGD(0.0).setup(L.Classifier(L.Linear(4, 2)))
data = [(np.ones(4, np.float32), np.int32(i % 2)) for i in range(8)]
updater = training.StandardUpdater(SerialIterator(data, 4), optimizer)
trainer = training.Trainer(updater, triggers.TimeTrigger(0.6), out=sys.argv[1])
trainer._snapshot_elapsed_time = 0.3 * world.rank  # clocks differ; rank 0's counts
fired = []
trainer.extend(lambda trainer: fired.append(updater.iteration), name="note", trigger=triggers.TimeTrigger(0.2))
trainer.extend(lambda trainer: time.sleep(0.001), name="work")
trainer.run()
everybody = world.allgather_obj((fired, updater.iteration))
assert all(other == everybody[0] for other in everybody), everybody
world.print(json.dumps([fired, updater.iteration, trainer.elapsed_time]))
"""


@pytest.mark.mpi
def test_all_ranks_go_by_the_clock_of_rank_0(run_ranks, tmp_path):
    for n in (2, 3):
        fired, last, seconds = json.loads(run_ranks(SCRIPT, n, str(tmp_path)).check().stdout)
        assert 1 <= len(fired) <= 3
        assert last > 1
        assert seconds >= 0.6
