"""Which file a job that is started again continues from."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from distrain.errors import CorruptFileError
from distrain.training import attempts, extensions, snapshot_files

NAME = "snapshot_iter_{.updater.iteration}"


@pytest.fixture
def start(make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains in an attempt of a job up to an iteration, with snapshots every two; returns where it began."""

    def run(job: str, last: int, *more: Any, filename: str = NAME, is_new: bool = True) -> int:
        monkeypatch.setenv("DISTRAIN_JOB", job)
        if is_new:
            monkeypatch.setattr(snapshot_files, "_begun", {})  # as in a process of its own
            monkeypatch.setattr(attempts, "_begun", {})
        trainer = make_trainer((last, "iteration"))
        begin: list[int] = []
        trainer.extend(lambda trainer: begin or begin.append(trainer.updater.iteration), call_before_training=True)
        trainer.extend(extensions.snapshot(filename=filename), trigger=(2, "iteration"))
        for extension in more:
            trainer.extend(extension, trigger=(3, "iteration"))
        trainer.run()
        return begin[0]

    return run


def test_the_next_attempt_continues_and_another_job_does_not(
    start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("a", 5) == 0
    assert start("a", 7) == 4
    assert capsys.readouterr().out == f"start 2: continues from {tmp_path}/result/snapshot_iter_4\n"
    assert start("b", 3) == 0  # its snapshot_iter_2 is newer than the other job's 4 and 6
    assert start("b", 5) == 2
    assert json.loads((tmp_path / "result" / ".job").read_text())["job"] == "b"


def test_without_a_job_nothing_continues(start: Any, make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start("a", 5)
    assert start("", 3) == 0


def test_the_newest_of_all_files_is_taken(start: Any) -> None:
    assert start("a", 4, extensions.snapshot(filename="other_{.updater.iteration}")) == 0
    assert start("a", 5, extensions.snapshot(filename="other_{.updater.iteration}")) == 4


def test_several_trainers_of_a_script_do_not_take_each_others_files(start: Any) -> None:
    assert start("a", 5) == 0
    assert start("a", 9, is_new=False) == 0  # it has begun with the files of the first, and written over them
    assert start("a", 7) == 0  # no file of it is left
    assert start("a", 11, is_new=False) == 8
    assert start("b", 5) == 0
    assert start("b", 9, filename="other_{.updater.iteration}", is_new=False) == 0
    assert start("b", 7) == 4
    assert start("b", 11, filename="other_{.updater.iteration}", is_new=False) == 8
    assert start("b", 9) == 4  # snapshot_iter_6 came after the second had begun


def test_a_damaged_file_is_left_out(start: Any, tmp_path: Path) -> None:
    start("a", 5)
    newest = tmp_path / "result" / "snapshot_iter_4"
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="snapshot_iter_4.* left out|left out.*snapshot_iter_4"):
        assert start("a", 7) == 2


def test_damaged_files_alone_are_an_error(start: Any, tmp_path: Path) -> None:
    start("a", 5)
    for path in (tmp_path / "result").glob("snapshot_iter_*"):
        path.write_bytes(b"PK")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(CorruptFileError):
            start("a", 7)


def test_a_note_that_cannot_be_read_is_written_again(start: Any, tmp_path: Path) -> None:
    start("a", 5)
    (tmp_path / "result" / ".job").write_text("{")
    assert start("a", 7) == 0
    assert start("a", 9) == 6


def test_a_snapshot_that_only_rank_0_has_continues_on_all(run_ranks: Any, tmp_path: Path) -> None:
    script = """
    import sys
    import numpy as np
    import distrain
    import distrain.links as L
    from distrain import iterators, optimizers, training

    comm = distrain.comm.world()
    optimizer = optimizers.SGD().setup(L.Classifier(L.Linear(4, 3)))
    data = distrain.datasets.TupleDataset(np.ones((9, 4), np.float32), np.zeros(9, np.int32))
    updater = training.StandardUpdater(iterators.SerialIterator(data, 3), optimizer)
    trainer = training.Trainer(updater, (int(sys.argv[2]), "iteration"), out=sys.argv[1])
    if comm.rank == 0:
        trainer.extend(training.extensions.snapshot(), trigger=(2, "iteration"))
    begin = []
    trainer.extend(lambda trainer: begin.append(updater.iteration), call_before_training=True, name="look")
    trainer.run()
    print(comm.gather_obj(begin[0]), flush=True)
    """
    env = {"DISTRAIN_JOB": "a", "DISTRAIN_SEED": "1"}
    assert "[0, 0]" in run_ranks(script, 2, str(tmp_path), "3", env=env).check().stdout
    assert "[2, 2]" in run_ranks(script, 2, str(tmp_path), "5", env=env).check().stdout
