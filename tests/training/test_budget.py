"""What a training says about the time that a stop takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

SCRIPT = """
import os, sys, time
import numpy as np
import distrain
import distrain.links as L
from distrain import training
from distrain.training import extensions

def slow(trainer):
    if trainer.updater.iteration in (1, 3):  # of which the first does not count
        time.sleep(2.1)

x = np.zeros((8, 4), np.float32)
data = distrain.datasets.TupleDataset(x, np.zeros((8, 1), np.float32))
model = L.Classifier(L.Linear(4, 1), lossfun=distrain.functions.mean_squared_error)
model.compute_accuracy = False
optimizer = distrain.optimizers.SGD().setup(model)
updater = training.StandardUpdater(distrain.iterators.SerialIterator(data, 4), optimizer)
trainer = training.Trainer(updater, (8, "iteration"), out=sys.argv[1])
trainer.extend(slow)
trainer.extend(extensions.snapshot(), trigger=(2, "iteration"))
trainer.run()
"""
TIMES = r"a stop by a signal takes up to (\S+) s for a step and (\S+) s for a snapshot"


def said(run_ranks: Callable[..., Any], folder: Any, ranks: int, **env: str) -> str:
    return str(run_ranks(SCRIPT, ranks, str(folder), env=env).check().stderr)


def test_a_job_that_may_be_started_again_is_told_once(run_ranks: Callable[..., Any], tmp_path: Any) -> None:
    words = said(run_ranks, tmp_path, 1, DISTRAIN_JOB="a", DISTRAIN_GRACE="120")
    (found,) = re.findall(rf"^distrain: {TIMES}; the time for it is 120 s\.\n", words, re.MULTILINE)
    assert float(found[0]) < 2.0  # at iteration 2
    assert "warning" not in words


@pytest.mark.mpi
def test_too_little_time_is_warned_of_when_it_shows(run_ranks: Callable[..., Any], tmp_path: Any) -> None:
    words = said(run_ranks, tmp_path, 2, SLURM_JOB_ID="1", DISTRAIN_GRACE="2")
    first, second = re.findall(rf"^distrain: (?:warning: )?{TIMES}", words, re.MULTILINE)
    assert float(first[0]) + float(first[1]) < 2.0 < 2.1 <= float(second[0])
    assert "but the time for it is 2 s. What comes after the last snapshot would be lost. Have the" in words


def test_others_hear_of_it_only_if_it_is_too_little(run_ranks: Callable[..., Any], tmp_path: Any) -> None:
    assert said(run_ranks, tmp_path / "a", 1) == ""
    assert said(run_ranks, tmp_path / "b", 1, DISTRAIN_GRACE="2").count("distrain: warning: a stop") == 1
