from __future__ import annotations

import os
import resource
import signal

import numpy as np
import pytest

import distrain.links as L
from distrain import serializers, training
from distrain.errors import ArgumentError
from distrain.training import extensions


def files(trainer) -> list[str]:
    return sorted(os.listdir(trainer.out))


def test_saves_the_trainer_once_an_epoch(make_trainer, tmp_path):
    trainer = make_trainer((3, "epoch"), samples=4, batch_size=2)
    trainer.extend(extensions.snapshot())
    trainer.run()
    assert files(trainer) == ["snapshot_iter_2", "snapshot_iter_4", "snapshot_iter_6"]
    resumed = make_trainer((3, "epoch"), samples=4, batch_size=2)
    resumed.extend(extensions.snapshot())
    serializers.load_npz(os.path.join(trainer.out, "snapshot_iter_4"), resumed)
    assert (resumed.updater.iteration, resumed.updater.epoch) == (4, 2)


def test_runs_after_everything_else_of_the_iteration(make_trainer):
    trainer = make_trainer((1, "iteration"))
    trainer.extend(extensions.snapshot(filename="snapshot"), trigger=(1, "iteration"))
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    trainer.run()
    with np.load(os.path.join(trainer.out, "snapshot")) as npz:
        assert '"iteration": 1' in str(npz["extensions/LogReport/_log"])


def test_saves_an_object(make_trainer):
    model = L.Linear(3, 2)
    trainer = make_trainer((2, "epoch"), samples=2)
    trainer.extend(extensions.snapshot_object(model, "model_{.updater.epoch}"))
    trainer.extend(extensions.snapshot(target=model, filename="again"), trigger=(2, "epoch"))
    trainer.run()
    assert files(trainer) == ["again", "model_1", "model_2"]
    copy = L.Linear(3, 2)
    serializers.load_npz(os.path.join(trainer.out, "model_2"), copy)
    np.testing.assert_array_equal(copy.W.array, model.W.array)


def test_save_function_of_the_users_own(make_trainer):
    def save(path, obj):
        with open(path, "w") as stream:
            stream.write(type(obj).__name__)

    trainer = make_trainer((1, "iteration"))
    trainer.extend(extensions.snapshot(save, "mine"), trigger=(1, "iteration"))
    trainer.run()
    with open(os.path.join(trainer.out, "mine")) as stream:
        assert stream.read() == "Trainer"


def test_a_save_that_fails_half_way_ends_the_training_and_keeps_the_older_file(make_trainer):
    def save(path, obj):
        with open(path, "w") as stream:
            stream.write("half")
            if trainer.updater.iteration == 2:
                raise OSError(28, "No space left on device", path)

    trainer = make_trainer((5, "iteration"))
    trainer.extend(extensions.snapshot(save, "snapshot"), trigger=(1, "iteration"))
    with pytest.raises(OSError, match="No space left on device") as caught:
        trainer.run()
    assert trainer.updater.iteration == 2
    assert "while saving 'snapshot' to" in caught.value.__notes__[0]
    assert files(trainer) == ["snapshot"]
    with open(os.path.join(trainer.out, "snapshot")) as stream:
        assert stream.read() == "half"  # of iteration 1: whole, as its function wrote it


def test_a_file_that_cannot_grow_is_an_error(make_trainer):
    trainer = make_trainer((3, "iteration"))
    big = L.Linear(400, 400)
    trainer.extend(extensions.snapshot_object(big, "model"), trigger=(1, "iteration"))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert files(trainer) == []
    assert trainer.updater.iteration == 1


def test_a_file_name_that_cannot_be_is_refused_before_training(make_trainer):
    trainer = make_trainer()
    trainer.extend(extensions.snapshot(filename="{.updater.itertion}"))
    with pytest.raises(
        ArgumentError, match=r"'\{.updater.itertion\}' cannot be formatted .* has no attribute 'itertion'"
    ):
        trainer.run()
    assert trainer.updater.iteration == 0


def test_folders_in_the_file_name_are_made(make_trainer):
    trainer = make_trainer((2, "iteration"))
    trainer.extend(extensions.snapshot_object(L.Linear(1, 1), "{.updater.iteration}/model"), trigger=(1, "iteration"))
    trainer.run()
    assert files(trainer) == ["1", "2"]
    assert os.listdir(os.path.join(trainer.out, "2")) == ["model"]


def test_a_condition_decides(make_trainer):
    trainer = make_trainer((4, "iteration"))
    answers = iter([True, False, True, False])
    trainer.extend(extensions.snapshot(condition=lambda: next(answers)), trigger=(1, "iteration"))
    never = extensions.snapshot_object(L.Linear(1, 1), "model", condition=lambda: False)
    trainer.extend(never, trigger=(1, "iteration"))
    trainer.run()
    assert files(trainer) == ["snapshot_iter_1", "snapshot_iter_3"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_is_followed_by_a_snapshot_if_asked_for(make_trainer, error):
    def fail(trainer):
        if trainer.updater.iteration == 3:
            raise error

    def make():
        trainer = make_trainer((4, "iteration"))
        trainer.extend(extensions.snapshot(snapshot_on_error=True), trigger=(2, "iteration"))
        trainer.extend(extensions.snapshot(filename="never"), trigger=(9, "iteration"))
        return trainer

    trainer = make()
    trainer.extend(fail)
    with pytest.raises(error):
        trainer.run()
    assert files(trainer) == ["snapshot_iter_2", "snapshot_iter_3"]
    resumed = make()
    serializers.load_npz(os.path.join(trainer.out, "snapshot_iter_3"), resumed)
    resumed.run()
    assert files(resumed) == ["snapshot_iter_2", "snapshot_iter_3", "snapshot_iter_4"]


CONDITION = """
import sys
import distrain.links as L
from distrain import comm, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

optimizer = optimizers.SGD().setup(L.Classifier(L.Linear(1, 2)))
updater = training.StandardUpdater(SerialIterator([([1.0], 0), ([2.0], 1)], 2), optimizer)
updater.update_core = lambda: next(updater.get_iterator("main"))
trainer = training.Trainer(updater, (3, "iteration"), sys.argv[1])
rank = comm.world().rank
trainer.extend(extensions.snapshot(condition=lambda: rank == 0 and updater.iteration == 2), trigger=(1, "iteration"))
trainer.run()
"""


@pytest.mark.mpi
def test_the_condition_of_rank_0_decides_for_all(run_ranks, tmp_path):
    run_ranks(CONDITION, 2, str(tmp_path / "out")).check()
    assert sorted(os.listdir(tmp_path / "out")) == ["ranks.json", "snapshot_iter_2"]


def test_name_in_the_trainer(make_trainer):
    trainer = make_trainer()
    trainer.extend(extensions.snapshot())
    trainer.extend(extensions.snapshot_object(L.Linear(1, 1), "model"))
    assert trainer.get_extension("_Snapshot").target is None
    assert trainer.get_extension("_Snapshot_1").priority < training.PRIORITY_READER


@pytest.mark.mpi
def test_a_failing_save_is_an_error_on_every_rank(run_ranks, tmp_path):
    script = """
import sys
import numpy as np
import distrain.links as L
from distrain import comm, optimizers, training
from distrain.errors import WorldError
from distrain.iterators import SerialIterator
from distrain.training import extensions

class Counting(training.StandardUpdater):
    def update_core(self):
        next(self.get_iterator("main"))

def save(path, obj):
    raise OSError(28, "No space left on device")

iterator = SerialIterator(np.zeros((4, 2), np.float32), 2)
trainer = training.Trainer(Counting(iterator, optimizers.SGD().setup(L.Linear(2, 1))), (2, "epoch"), out=sys.argv[1])
trainer.extend(extensions.snapshot(save))
try:
    trainer.run(show_loop_exception_msg=False)
except (OSError if comm.world().rank == 0 else WorldError) as error:
    assert "No space left on device" in str(error), error
else:
    raise AssertionError("no error")
"""
    run_ranks(script, 2, str(tmp_path / "out")).check()
