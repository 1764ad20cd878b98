from __future__ import annotations

import json
import os

import pytest

from distrain import serializers
from distrain.training import extensions
from distrain.training.extensions.entry_writer import EntryWriter, facts


class FileWriter(EntryWriter):
    """Writes to a file in a folder that may be gone."""

    def __init__(self, folder, log_report="LogReport"):
        super().__init__(log_report)
        self.folder = folder

    def open(self, trainer):
        self.facts = facts(trainer)

    def write(self, entries):
        with open(self.folder / "entries", "a") as stream:
            stream.write("".join(json.dumps(entry["iteration"]) + "\n" for entry in entries))

    def close(self, outcome):
        (self.folder / outcome).touch()


def make(make_trainer, tmp_path, last=8):
    (tmp_path / "other").mkdir(exist_ok=True)
    trainer = make_trainer((last, "iteration"))
    trainer.extend(FileWriter(tmp_path / "other"), name="writer")  # called before there is a new entry
    trainer.extend(extensions.LogReport(trigger=(2, "iteration")))
    trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
    return trainer


def read(tmp_path):
    return [int(line) for line in (tmp_path / "other" / "entries").read_text().split()]


def test_all_entries_once_also_after_a_resume(make_trainer, tmp_path):
    trainer = make(make_trainer, tmp_path)
    trainer.run()
    assert read(tmp_path) == [2, 4, 6, 8]
    assert (tmp_path / "other" / "finished").exists()
    assert trainer.get_extension("writer").facts["ranks"] == 1
    resumed = make(make_trainer, tmp_path, 10)
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_8", resumed)
    resumed.run()
    assert read(tmp_path) == [2, 4, 6, 8, 10]


def test_what_cannot_be_written_is_written_later(make_trainer, tmp_path):
    trainer = make(make_trainer, tmp_path)

    def move(trainer):
        if trainer.updater.iteration == 1:
            os.rename(tmp_path / "other", tmp_path / "away")
        if trainer.updater.iteration == 6:
            os.rename(tmp_path / "away", tmp_path / "other")

    trainer.extend(move, name="move")
    with pytest.warns(UserWarning, match=r"cannot be written \(FileNotFoundError: .*it is tried again") as warned:
        trainer.run()
    assert len(warned) == 1
    assert read(tmp_path) == [2, 4, 6, 8]


def test_an_end_that_fails_is_a_warning(make_trainer, tmp_path):
    trainer = make(make_trainer, tmp_path)
    trainer.extend(lambda trainer: os.rename(tmp_path / "other", tmp_path / "away"), name="x", trigger=(8, "iteration"))
    with pytest.warns(UserWarning, match="FileWriter") as warned:
        trainer.run()
    assert [str(one.message).split("(")[0] for one in warned] == [
        "FileWriter: entries of the log cannot be written ",
        "FileWriter: entries of the log may not all be there: closing failed ",
    ]


@pytest.mark.parametrize(("error", "outcome"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_how_it_has_ended(make_trainer, tmp_path, error, outcome):
    def stop(trainer):
        raise error

    trainer = make(make_trainer, tmp_path)
    trainer.extend(stop, trigger=(5, "iteration"))
    with pytest.raises(error):
        trainer.run()
    assert (tmp_path / "other" / outcome).exists()
    assert read(tmp_path) == [2, 4]
