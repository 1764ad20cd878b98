from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from distrain import serializers, training
from distrain.training import extensions, triggers

VALUES = [3.0, 5.0, 5.0, 1.0, math.nan, 2.0, 0.5, 9.0, 9.0, 8.0]
EACH = (1, "iteration")


def train(make_trainer, trigger, last, values=VALUES, resume=None, key="x"):
    """The iterations at which the trigger fired; a snapshot of every one is left in `result`."""
    fired = []

    @training.make_extension(priority=training.PRIORITY_WRITER)
    def observe(trainer):
        value = values[trainer.updater.iteration - 1]
        if value is not None:
            trainer.observation[key] = value

    trainer = make_trainer((last, "iteration"), samples=2)
    trainer.extend(observe)
    trainer.extend(extensions.snapshot(), trigger=EACH)  # registered first, saved last
    best = extensions.snapshot_object(trainer.updater, "best_{.updater.iteration}")
    trainer.extend(best, trigger=trigger)
    trainer.extend(lambda trainer: fired.append(trainer.updater.iteration), name="note", trigger=EACH)
    if resume:
        serializers.load_npz(resume, trainer)
    trainer.run()
    return [i for i in fired if (Path(trainer.out) / f"best_{i}").exists()]


MAKERS = [
    (lambda: triggers.MaxValueTrigger("x", EACH), [1, 2, 8]),
    (lambda: triggers.MinValueTrigger("x", EACH), [1, 4, 7]),
    (lambda: triggers.BestValueTrigger("x", lambda best, new: abs(new - 4) < abs(best - 4), EACH), [1]),
    (lambda: triggers.MaxValueTrigger("x", (2, "iteration")), [2, 8, 10]),  # means 4, 3, nan, 4.75, 8.5
    (lambda: triggers.MaxValueTrigger("x"), [2, 8, 10]),  # an epoch has two iterations
]


@pytest.mark.parametrize(("make", "expected"), MAKERS)
def test_fires_when_the_mean_is_better_than_ever(make_trainer, make, expected):
    assert train(make_trainer, make(), 10) == expected


@pytest.mark.parametrize("at", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize(("make", "expected"), MAKERS)
def test_fires_alike_across_a_resume(make_trainer, tmp_path, make, expected, at):
    before = train(make_trainer, make(), at)
    for path in (tmp_path / "result").glob("best_*"):
        path.unlink()
    after = train(make_trainer, make(), 10, resume=tmp_path / "result" / f"snapshot_iter_{at}")
    assert before + after == expected


def test_says_the_best_value(make_trainer):
    trigger = triggers.MinValueTrigger("x", EACH)
    assert trigger.best_value is None
    train(make_trainer, trigger, 10)
    assert trigger.best_value == 0.5


def test_an_interval_without_the_value_is_left_out(make_trainer):
    assert train(make_trainer, triggers.MaxValueTrigger("x", EACH), 4, [1.0, None, 0.5, 2.0]) == [1, 4]


def test_warns_of_a_value_that_never_comes(make_trainer):
    message = "MaxValueTrigger waits for 'y', which nobody has reported so far; the observation of iteration 2 has 'x'"
    with pytest.warns(UserWarning, match=message):
        train(make_trainer, triggers.MaxValueTrigger("y"), 2)


SCRIPT = """
import json, sys
import numpy as np
import distrain.links as L
from distrain import comm, datasets, optimizers, serializers, set_seed, training
from distrain.iterators import SerialIterator
from distrain.training import extensions, triggers

set_seed(5)
train, test = datasets.get_digits()
train, test = datasets.SubDataset(train, 0, 203), datasets.SubDataset(test, 0, 101)
model = L.Classifier(L.Linear(64, 10))
optimizer = optimizers.SGD(2.0).setup(model)
updater = training.StandardUpdater(SerialIterator(train, 50), optimizer)
stop = triggers.EarlyStoppingTrigger((3, "iteration"), "main/loss", patience=4, max_trigger=(24, "iteration"))
trainer = training.Trainer(updater, stop, out=sys.argv[1])
fired = {"all": [], "rank0": [], "alone": []}
trainer.extend(
    lambda trainer: fired["all"].append(updater.iteration), name="note",
    trigger=triggers.MinValueTrigger("main/loss", (2, "iteration")),
)
trainer.extend(
    lambda trainer: fired["rank0"].append(updater.iteration), name="note on rank 0", runs_on="rank0",
    trigger=triggers.OrTrigger(triggers.MaxValueTrigger("main/accuracy", (3, "iteration")), (23, "iteration")),
)
if comm.world().rank == 0:
    trainer.extend(
        lambda trainer: fired["alone"].append(updater.iteration), name="note alone",
        trigger=triggers.MinValueTrigger("main/loss", (2, "iteration")),
    )
trainer.extend(extensions.LogReport(trigger=triggers.MaxValueTrigger("main/accuracy", (2, "iteration"))))
trainer.extend(extensions.snapshot(), trigger=(7, "iteration"))
if len(sys.argv) > 2:
    serializers.load_npz(sys.argv[2], trainer)
trainer.run()
fired["log"] = [entry["iteration"] for entry in trainer.get_extension("LogReport").log]
fired["stop"] = updater.iteration
everybody = comm.world().allgather_obj(fired)
for other in everybody[1:]:
    assert other == {**fired, "rank0": [], "alone": []} or comm.world().rank, everybody
comm.world().print(json.dumps(everybody[0]))
"""


@pytest.mark.mpi
def test_all_ranks_decide_alike_and_as_one_rank_does(run_ranks, tmp_path):
    found = [json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n))).check().stdout) for n in (1, 2, 3)]
    assert found[0]["all"]
    assert len(found[0]["rank0"]) > 1
    for key in ("all", "rank0", "log", "stop"):
        assert found[0][key] == found[1][key] == found[2][key], key
    assert found[1]["alone"]  # goes by the values of rank 0


@pytest.mark.mpi
def test_a_snapshot_within_an_interval_has_the_values_of_all_ranks(run_ranks, tmp_path):
    whole = json.loads(run_ranks(SCRIPT, 2, str(tmp_path / "whole")).check().stdout)
    for n in (1, 2):
        out, resumed_at = str(tmp_path / f"resumed {n}"), str(tmp_path / "whole" / "snapshot_iter_7")
        rest = json.loads(run_ranks(SCRIPT, n, out, resumed_at).check().stdout)
        assert rest["stop"] == whole["stop"]
        for key in ("all", "rank0"):
            assert rest[key] == [i for i in whole[key] if i > 7]
        assert rest["log"] == whole["log"]
