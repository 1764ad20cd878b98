"""Snapshots that follow each other: how many stay, which one is loaded, and the best."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import distrain.links as L
from distrain import serializers, training
from distrain.errors import ArgumentError, CorruptFileError, MismatchError
from distrain.training import extensions, triggers

EACH = (1, "iteration")


def files(trainer) -> list[str]:
    return sorted(os.listdir(trainer.out))


def with_snapshots(trainer, **settings):
    trainer.extend(extensions.snapshot(**settings), trigger=EACH)
    return trainer


def damage(path) -> None:
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])


def noted(trainer) -> list[int]:
    """The iterations that the trainer makes; the list grows as it runs."""
    steps: list[int] = []
    trainer.extend(lambda trainer: steps.append(trainer.updater.iteration), name="note", trigger=lambda trainer: True)
    return steps


# n_retains


def test_the_newest_files_stay_and_those_of_others(make_trainer, tmp_path):
    others = ["snapshot_iter_0", "snapshot_iter_1_bak", "snapshot_iter_99", "log"]
    (tmp_path / "result").mkdir()
    for name in others:
        (tmp_path / "result" / name).touch()
    trainer = with_snapshots(make_trainer((12, "iteration"), samples=4), n_retains=2)
    trainer.run()
    assert files(trainer) == sorted([*others, "snapshot_iter_11", "snapshot_iter_12"])


def test_a_resumed_run_deletes_the_files_of_the_one_before(make_trainer):
    with_snapshots(make_trainer((4, "iteration")), n_retains=3).run()
    resumed = with_snapshots(make_trainer((5, "iteration")), n_retains=3, autoload=True)
    resumed.run()
    assert files(resumed) == ["snapshot_iter_3", "snapshot_iter_4", "snapshot_iter_5"]
    fewer = with_snapshots(make_trainer((6, "iteration")), n_retains=1, autoload=True)
    fewer.run()
    assert files(fewer) == ["snapshot_iter_6"]


def test_a_run_that_is_resumed_elsewhere_leaves_the_files_there(make_trainer, tmp_path):
    first = with_snapshots(make_trainer((3, "iteration")), n_retains=2)
    first.run()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "snapshot_iter_2").touch()
    resumed = with_snapshots(make_trainer((5, "iteration"), out=tmp_path / "other"), n_retains=1)
    serializers.load_npz(os.path.join(first.out, "snapshot_iter_3"), resumed)
    resumed.run()
    assert files(resumed) == ["snapshot_iter_2", "snapshot_iter_5"]
    assert files(first) == ["snapshot_iter_2", "snapshot_iter_3"]


def test_a_list_in_a_file_cannot_name_other_files(make_trainer, tmp_path):
    (tmp_path / "snapshot_iter_1").touch()
    trainer = with_snapshots(make_trainer(), n_retains=1)
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "log").touch()
    trainer.get_extension("_Snapshot")._written = [str(tmp_path / "snapshot_iter_1"), str(tmp_path / "result" / "log")]
    trainer.run()
    assert files(trainer) == ["log", "snapshot_iter_3"]
    assert (tmp_path / "snapshot_iter_1").exists()


def test_nothing_is_deleted_before_the_new_file_is_there(make_trainer):
    def save(path, obj):
        if trainer.updater.iteration == 3:
            raise OSError(28, "No space left on device", path)
        serializers.save_npz(path, obj)

    trainer = with_snapshots(make_trainer((5, "iteration")), savefun=save, n_retains=1)
    with pytest.raises(OSError, match="No space left"):
        trainer.run(show_loop_exception_msg=False)
    assert files(trainer) == ["snapshot_iter_2"]


def test_a_file_that_somebody_has_deleted_is_no_matter(make_trainer):
    trainer = with_snapshots(make_trainer((4, "iteration")), n_retains=2)
    trainer.extend(lambda t: t.updater.iteration == 3 and os.unlink(os.path.join(t.out, "snapshot_iter_1")), name="rm")
    trainer.run()
    assert files(trainer) == ["snapshot_iter_3", "snapshot_iter_4"]


@pytest.mark.parametrize("wrong", [0, -2, 1.5, True, None])
def test_what_is_no_number_of_files_is_refused(wrong):
    with pytest.raises(ArgumentError, match="n_retains is a number of files to keep, or -1 to keep all, not"):
        extensions.snapshot(n_retains=wrong)


def test_two_extensions_that_would_delete_each_others_files_are_refused(make_trainer):
    trainer = with_snapshots(with_snapshots(make_trainer()), n_retains=2)
    with pytest.raises(ArgumentError, match="'_Snapshot' and '_Snapshot_1' both write 'snapshot_iter_"):
        trainer.run()


def test_a_condition_that_says_no_deletes_nothing(make_trainer):
    trainer = make_trainer((6, "iteration"))
    with_snapshots(trainer, n_retains=2, condition=lambda: trainer.updater.iteration in (1, 2, 4))
    trainer.run()
    assert files(trainer) == ["snapshot_iter_2", "snapshot_iter_4"]


# autoload


def test_without_a_file_training_starts_from_the_start(make_trainer):
    trainer = with_snapshots(make_trainer((2, "iteration")), autoload=True)
    steps = noted(trainer)
    trainer.run()
    assert steps == [1, 2]


@pytest.mark.parametrize("at", [2, 9, 10])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(make_digits_trainer, tmp_path, at):
    def make(out):
        trainer = make_digits_trainer((12, "iteration"), out=tmp_path / out, samples=250)
        trainer.extend(extensions.LogReport(trigger=EACH))  # has its state before its `initialize`
        trainer.extend(extensions.ExponentialShift("alpha", 0.9), trigger=EACH)
        return with_snapshots(trainer, autoload=True)

    whole = make("whole")
    whole.run()
    (tmp_path / "parts").mkdir()
    for i in range(1, at + 1):
        shutil.copy(tmp_path / "whole" / f"snapshot_iter_{i}", tmp_path / "parts")
    Path(tmp_path / "parts" / "snapshot_iter_99_bak").touch()
    rest = make("parts")
    steps = noted(rest)
    rest.run()
    assert steps == list(range(at + 1, 13))
    models = [trainer.updater.get_optimizer("main").target for trainer in (whole, rest)]
    for (path, one), (_, other) in zip(*(model.namedparams() for model in models), strict=True):
        assert one.array.tobytes() == other.array.tobytes(), path
    assert [e["main/loss"] for e in whole.get_extension("LogReport").log] == [
        e["main/loss"] for e in rest.get_extension("LogReport").log
    ]


def test_a_complete_training_is_not_trained_again(make_trainer):
    with_snapshots(make_trainer((3, "iteration"))).run()
    again = with_snapshots(make_trainer((3, "iteration")), autoload=True)
    called = []
    again.extend(called.append, name="note", call_before_training=True, trigger=lambda trainer: True)
    again.run()
    assert again.updater.iteration == 3
    assert not called


def test_a_truncated_file_is_left_out(make_trainer):
    with_snapshots(make_trainer((3, "iteration"))).run()
    resumed = with_snapshots(make_trainer((4, "iteration")), autoload=True, n_retains=1)
    damage(os.path.join(resumed.out, "snapshot_iter_3"))
    steps = noted(resumed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resumed.run()
    assert "a snapshot cannot be read and is left out: " in str(caught[0].message)
    assert "snapshot_iter_3 is not a whole npz file" in str(caught[0].message)
    assert steps == [3, 4]


def test_a_flipped_bit_is_found(make_digits_trainer):
    with_snapshots(make_digits_trainer((2, "iteration")), savefun=lambda p, o: serializers.save_npz(p, o, False)).run()
    resumed = with_snapshots(make_digits_trainer((2, "iteration")), autoload=True)
    path = Path(resumed.out) / "snapshot_iter_2"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    steps = noted(resumed)
    with pytest.warns(UserWarning, match=r"snapshot_iter_2: the array '.*' is damaged"):
        resumed.run()
    assert steps == [2]


def test_if_no_file_is_whole_training_does_not_start(make_trainer):
    with_snapshots(make_trainer((2, "iteration"))).run()
    resumed = with_snapshots(make_trainer((4, "iteration")), autoload=True)
    for name in files(resumed):
        damage(os.path.join(resumed.out, name))
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(CorruptFileError, match="snapshot_iter_2") as caught,
    ):
        resumed.run(show_loop_exception_msg=False)
    assert "move them away to train from the start" in caught.value.__notes__[0]
    assert resumed.updater.iteration == 0


def test_the_file_of_another_training_is_an_error(make_trainer, make_digits_trainer):
    with_snapshots(make_trainer()).run()
    other = with_snapshots(make_digits_trainer(), autoload=True)
    with pytest.raises(MismatchError, match="does not belong to this Trainer"):
        other.run(show_loop_exception_msg=False)
    assert other.updater.iteration == 0


def test_what_the_script_has_loaded_stays(make_trainer):
    with_snapshots(make_trainer((4, "iteration"))).run()
    resumed = with_snapshots(make_trainer((5, "iteration")), autoload=True)
    serializers.load_npz(os.path.join(resumed.out, "snapshot_iter_2"), resumed)
    steps = noted(resumed)
    resumed.run()
    assert steps == [3, 4, 5]


def test_an_object_is_loaded(make_trainer):
    first = make_trainer()
    model = L.Linear(2, 1)
    first.extend(extensions.snapshot_object(model, "model_{.updater.iteration}", n_retains=2), trigger=EACH)
    first.run()
    assert files(first) == ["model_2", "model_3"]
    copy = L.Linear(2, 1)
    second = make_trainer()
    second.extend(extensions.snapshot_object(copy, "model_{.updater.iteration}", autoload=True))
    second.run()
    np.testing.assert_array_equal(copy.W.array, model.W.array)


RANKS = """
import os, sys, warnings
import numpy as np
import distrain.links as L
from distrain import comm, optimizers, training
from distrain.errors import ArgumentError, CorruptFileError, WorldError
from distrain.iterators import SerialIterator
from distrain.training import extensions

world = comm.world()

def make(last, **settings):
    optimizer = optimizers.SGD().setup(L.Linear(2, 1))
    updater = training.StandardUpdater(SerialIterator(np.ones((10, 2), np.float32), 4), optimizer,
                                       loss_func=lambda x: optimizer.target(x).mean())
    out = sys.argv[1] if world.rank == 0 else "/nobody/sees/this"
    trainer = training.Trainer(updater, (last, "iteration"), out=out)
    trainer.extend(extensions.snapshot(n_retains=2, autoload=True), trigger=(1, "iteration"), **settings)
    return trainer

make(4).run()
resumed = make(6)
steps = []
resumed.extend(lambda trainer: steps.append(trainer.updater.iteration), name="steps")
resumed.run()
assert steps == [5, 6], steps
weights = resumed.updater.get_optimizer("main").target.W.array.tobytes()
assert set(world.allgather_obj(weights)) == {weights}
try:
    make(7, runs_on="rank0").run(show_loop_exception_msg=False)
except ArgumentError as error:
    assert world.rank == 0 and "is not on all ranks" in str(error), error
"""

RANKS_DAMAGED = """
if world.rank == 0:
    for name in os.listdir(sys.argv[1]):
        if name.startswith("snapshot"):
            os.truncate(os.path.join(sys.argv[1], name), 100)
warnings.simplefilter("ignore")
try:
    make(8).run(show_loop_exception_msg=False)
except (CorruptFileError if world.rank == 0 else WorldError) as error:
    assert "snapshot_iter_6" in str(error), error
else:
    raise AssertionError("no error")
"""


@pytest.mark.mpi
def test_ranks_that_do_not_see_the_files_go_on_alike(run_ranks, tmp_path):
    script = RANKS[: RANKS.index("try:")]
    run_ranks(script + RANKS_DAMAGED, 2, str(tmp_path / "out")).check()
    assert sorted(os.listdir(tmp_path / "out")) == ["ranks.json", "snapshot_iter_5", "snapshot_iter_6"]


# The best

ACCURACIES = [0.5, 0.7, 0.6, 0.9, 0.9, 0.8, 0.95, 0.2]


def train(make_trainer, last, regular_first, **settings):
    """A training that keeps its best state beside the newest one."""

    @training.make_extension(priority=training.PRIORITY_WRITER)
    def evaluate(trainer):
        trainer.observation["validation/main/accuracy"] = ACCURACIES[trainer.updater.iteration - 1]

    trainer = make_trainer((last, "iteration"), samples=1)
    trainer.extend(evaluate)
    if regular_first:
        with_snapshots(trainer, n_retains=1, autoload=True)
    best = triggers.MaxValueTrigger("validation/main/accuracy")
    trainer.extend(extensions.snapshot(**{"filename": "best", **settings}), name="keep best", trigger=best)
    if not regular_first:
        with_snapshots(trainer, n_retains=1, autoload=True)
    trainer.run()
    return trainer, best


@pytest.mark.parametrize("regular_first", [True, False])
@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 7])
def test_the_best_stays_across_a_resume(make_trainer, at, regular_first):
    if at:
        train(make_trainer, at, regular_first)
    trainer, best = train(make_trainer, 8, regular_first)
    assert best.best_value == pytest.approx(0.95)
    assert files(trainer) == ["best", "snapshot_iter_8"]
    with np.load(os.path.join(trainer.out, "best")) as npz:
        assert npz["updater/iteration"] == 7
        assert npz["extension_triggers/keep best/best_value"] == pytest.approx(0.95)


@pytest.mark.parametrize("at", [0, 3, 4, 6])
def test_the_best_three(make_trainer, at):
    settings = {"filename": "best_{.updater.iteration}", "n_retains": 3}
    if at:
        train(make_trainer, at, True, **settings)
    trainer, _ = train(make_trainer, 8, True, **settings)
    assert files(trainer) == ["best_2", "best_4", "best_7", "snapshot_iter_8"]
