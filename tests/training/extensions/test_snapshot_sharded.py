"""Snapshots of a training whose optimizer state is spread over the ranks."""

from __future__ import annotations

import numpy as np
import pytest

SCRIPT = """
import os, sys
import numpy as np
import distrain.links as L
from distrain import comm, datasets, optimizers, set_seed, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

out, state, fails = sys.argv[1:]
set_seed(3)
train = datasets.SubDataset(datasets.get_digits()[0], 0, 200)
optimizer = optimizers.Adam().setup(L.Classifier(L.Linear(64, 10)))
optimizer.shard_state(state == "sharded")
trainer = training.Trainer(
    training.StandardUpdater(SerialIterator(train, 40), optimizer), (4, "iteration"), out=out
)
trainer.extend(extensions.snapshot_object(optimizer, "optimizer_{.updater.iteration}"), trigger=(2, "iteration"))
trainer.extend(extensions.snapshot(filename="at_the_end", snapshot_on_error=True), trigger=(4, "iteration"))

def fail(trainer):
    if fails == "fails" and trainer.updater.iteration == 3:
        raise ValueError("on purpose")

trainer.extend(fail)
try:
    trainer.run(show_loop_exception_msg=False)
except ValueError as error:
    if comm.world().rank == 0:
        (note,) = error.__notes__
        assert "on_error" in note and "spread over 2 ranks" in note, note
        assert not os.path.exists(f"{out}/at_the_end")
comm.world().barrier()
"""


@pytest.mark.mpi
def test_files_have_the_whole_state(run_ranks, tmp_path):
    for state in ("whole", "sharded"):
        run_ranks(SCRIPT, 2, str(tmp_path / state), state, "no").check()
    for name in ("optimizer_2", "optimizer_4", "at_the_end"):
        with np.load(tmp_path / "whole" / name) as whole, np.load(tmp_path / "sharded" / name) as sharded:
            keys = [
                key for key in whole if not any(word in key for word in ("exchange", "elapsed_time", "stop_trigger"))
            ]
            assert any(key.endswith("predictor/W/m") for key in keys)
            for key in keys:
                np.testing.assert_array_equal(sharded[key], whole[key], err_msg=f"{name} {key}")


@pytest.mark.mpi
def test_an_exception_ends_the_training_without_a_file_that_is_not_whole(run_ranks, tmp_path):
    run_ranks(SCRIPT, 2, str(tmp_path / "out"), "sharded", "fails").check()
