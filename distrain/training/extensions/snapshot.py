"""Extensions that save the training, or a part of it, to a file."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distrain.comm import Communicator
from distrain.errors import ArgumentError, WorldError
from distrain.files import fsync_directory
from distrain.serializers import load_npz, save_npz
from distrain.training.extension import Extension, RunsOn
from distrain.training.extensions.file_series import file_series
from distrain.training.persistents import average_over_ranks
from distrain.training.snapshot_files import found_for_all, newest_whole

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_ASIDE = ".snapshot-"  # begins the names of folders for what is not complete

SaveFunction = Callable[[str, Any], Any]


class Snapshot(Extension):
    """Saves an object to a file in `trainer.out`; made by `snapshot` and `snapshot_object`.

    Rank 0 writes. The file takes its name when it is complete and on disk; an older one of that name stays until then.
    When it cannot be written, the training ends on all ranks. Floating persistent values of the models (running
    statistics) are replaced by their means over the ranks before.

    Args:
        target: what to save; None is the trainer.
        filename: name of the file, formatted with the trainer.
        savefun: writes the file: `savefun(path, object)`.
        condition: asked on rank 0 each time whether to save.
        snapshot_on_error: save when an exception ends the training.
        n_retains: how many of the files stay; -1 for all.
        autoload: load the newest of the files before training.

    Attributes:
        comm: the ranks that save together; None is those of the trainer.
        saved_at: the iteration of the last file; None before there was one.
    """

    trigger = (1, "epoch")
    saved_at: int | None = None
    priority = -100  # after everything that belongs to the iteration
    runs_on: RunsOn = "all"
    comm: Communicator | None = None

    def __init__(
        self,
        target: Any,
        filename: str,
        savefun: SaveFunction,
        condition: Callable[[], bool] | None,
        snapshot_on_error: bool,
        n_retains: int,
        autoload: bool,
    ) -> None:
        if isinstance(n_retains, bool) or not isinstance(n_retains, int) or n_retains < -1 or n_retains == 0:
            raise ArgumentError(f"n_retains is a number of files to keep, or -1 to keep all, not {n_retains!r}")
        self.target, self.filename, self.savefun = target, filename, savefun
        self.condition, self.snapshot_on_error = condition, snapshot_on_error
        self.n_retains, self.autoload = n_retains, autoload
        self._written: list[str] = []  # real paths of what is to be deleted one day, the oldest first
        if target is None:
            self.priority = -300  # after all others, whose triggers then know this iteration

    @property
    def default_name(self) -> str:
        """The name that it has in Chainer's snapshots."""
        return "_Snapshot"

    @property
    def saves_trainer(self) -> bool:
        """Whether the file has the state of all extensions and triggers."""
        return self.target is None

    def before_initialize(self, trainer: Trainer) -> None:
        """Checks the name of the file, before anything could be lost, and loads the newest one if that was asked for.

        What a killed job has left of an unfinished file is removed.

        Rank 0 reads; the others need not see the file. A file that is truncated or damaged is left out with a warning.
        A trainer that has made steps, loaded by the script, stays as it is.

        Raises:
            ArgumentError: the name cannot be formatted with the trainer, or another extension deletes what this writes.
            CorruptFileError: there are files, and none of them can be read; on rank 0.
            MismatchError: the newest file belongs to another training.
            WorldError: rank 0 could not read the files; on the other ranks.
        """
        self._check_filename(trainer)
        if (self.comm or trainer.comm).rank == 0:
            self._remove_torn(trainer)
        if not self.autoload or (self.target is None and not trainer.is_before_training):
            return
        comm = self.comm or trainer.comm
        if comm.size != trainer.comm.size:
            raise ArgumentError(f"extension {self.name!r} is not on all ranks, so autoload=True would not load on all")
        found = found_for_all(comm, lambda: self._newest(trainer))
        if found is not None:
            load_npz(found, trainer if self.target is None else self.target)

    def _check_filename(self, trainer: Trainer) -> None:
        try:
            self.filename.format(trainer)
        except (AttributeError, LookupError, ValueError) as error:
            raise ArgumentError(
                f"the file name {self.filename!r} cannot be formatted with the trainer ({error}); it may say "
                "'{.updater.iteration}' or '{.updater.epoch}'"
            ) from error
        for other in trainer.extensions():
            if isinstance(other, Snapshot) and other is not self and other.filename == self.filename:
                if max(other.n_retains, self.n_retains) > 0:
                    raise ArgumentError(
                        f"extensions {self.name!r} and {other.name!r} both write {self.filename!r}, and with n_retains "
                        "one would delete the files of the other; give one of them another filename"
                    )

    def _newest(self, trainer: Trainer) -> str | None:
        """Path of the newest file that is whole; None if there is none at all."""
        names = reversed(file_series(self.filename, trainer))
        return newest_whole((os.path.join(trainer.out, name) for name in names), self.filename, trainer.out)

    def _remove_torn(self, trainer: Trainer) -> None:
        """Removes what a job left that was killed while it saved; the directory is this job's, so nobody else saves."""
        directory = os.path.dirname(self._real_path(trainer))
        for path in glob.glob(os.path.join(glob.escape(directory), f"{_ASIDE}*")):
            shutil.rmtree(path, ignore_errors=True)

    def announce(self, trainer: Trainer) -> None:
        """Notes the file that the next call will write, so that what is saved before that call knows of it."""
        if (self.comm or trainer.comm).rank == 0:
            path = self._real_path(trainer)
            self._written = [*(older for older in self._written if older != path), path]

    def __call__(self, trainer: Trainer) -> None:
        """Saves.

        Raises:
            OSError: the file cannot be written; on rank 0.
            WorldError: likewise, on the other ranks.
        """
        comm = self.comm or trainer.comm
        if self.condition is not None and not comm.bcast_obj(comm.rank == 0 and bool(self.condition())):
            self._written = [path for path in self._written if path != self._real_path(trainer)]
            return
        if self.target is None and comm.size == trainer.comm.size:
            trainer.stops()  # the file then has the state of the stop trigger after this iteration
        if comm.size > 1:
            self._gather(trainer, comm)
        failure: Exception | None = None
        if comm.rank == 0:
            try:
                self._save(trainer)
            except Exception as error:  # first the other ranks must know
                error.add_note(f"while saving {self.filename.format(trainer)!r} to {os.path.abspath(trainer.out)!r}")
                failure = error
        if comm.size > 1:
            said = comm.bcast_obj(None if failure is None else f"{type(failure).__name__}: {failure}")
            if said is not None and failure is None:
                follower = WorldError(f"rank 0 could not save {self.filename.format(trainer)!r} ({said})")
                follower.deserted = True
                raise follower
        if failure is not None:
            raise failure
        self.saved_at = trainer.updater.iteration

    def on_error(self, trainer: Trainer, exc: BaseException, tb: TracebackType | None) -> None:
        """Saves if that was asked for: on rank 0 alone, since others may not come any more.

        The file says what was complete when the exception came. What other ranks have of means over an interval is not
        in it.
        """
        if self.snapshot_on_error and (self.comm or trainer.comm).rank == 0:
            self._save(trainer)

    def _gather(self, trainer: Trainer, comm: Communicator) -> None:
        """Brings to rank 0 what the other ranks have of the state."""
        if self.target is not None:
            links = [self.target] if hasattr(self.target, "namedpersistents") else []
            if gather := getattr(self.target, "gather", None):
                gather()
        else:
            links = [optimizer.target for optimizer in trainer.updater.get_all_optimizers().values()]
            trainer.gather()
        for link in links:
            average_over_ranks(link, comm)

    def _real_path(self, trainer: Trainer) -> str:
        return os.path.realpath(os.path.join(trainer.out, self.filename.format(trainer)))

    def _save(self, trainer: Trainer) -> None:
        target = trainer if self.target is None else self.target
        path = os.path.join(trainer.out, self.filename.format(trainer))
        directory = os.path.dirname(path) or "."
        os.makedirs(directory, exist_ok=True)
        written = self._written
        self.announce(trainer)
        try:
            with tempfile.TemporaryDirectory(prefix=_ASIDE, dir=directory) as aside:
                temporary = os.path.join(aside, os.path.basename(path))
                self.savefun(temporary, target)
                with open(temporary, "rb") as stream:
                    os.fsync(stream.fileno())
                os.replace(temporary, path)
        except BaseException:
            self._written = written
            raise
        fsync_directory(Path(directory))
        self._delete_old(trainer)

    def _delete_old(self, trainer: Trainer) -> None:
        """Deletes what is too many of the files that this training has written, and no other file."""
        if self.n_retains < 0:
            self._written = []
            return
        old, self._written = self._written[: -self.n_retains], self._written[-self.n_retains :]
        if not old:
            return
        there = {os.path.realpath(os.path.join(trainer.out, name)) for name in file_series(self.filename, trainer)}
        for path in old:
            if path in there:  # the list may come from a file, and from another directory
                try:
                    os.unlink(path)
                except OSError as error:
                    warnings.warn(f"an old snapshot could not be deleted: {error}")

    def serialize(self, serializer: Any) -> None:
        """Writes or reads which files there are to delete one day; nothing if all of them stay."""
        if self.n_retains > 0:
            self._written = [str(path) for path in json.loads(serializer("_written", json.dumps(self._written)))]


def snapshot(
    savefun: SaveFunction | None = None,
    filename: str = "snapshot_iter_{.updater.iteration}",
    *,
    target: Any = None,
    condition: Callable[[], bool] | None = None,
    snapshot_on_error: bool = False,
    n_retains: int = -1,
    autoload: bool = False,
) -> Snapshot:
    """An extension that saves the whole trainer, once an epoch unless `extend` is given another trigger.

    `serializers.load_npz(path, trainer)` continues from the file.

    Args:
        savefun: writes the file: `savefun(path, object)`; `serializers.save_npz` by default.
        filename: its name in `trainer.out`, formatted with the trainer.
        target: what to save instead of the trainer.
        condition: called without arguments on rank 0; nothing is saved where it says False.
        snapshot_on_error: also save when an exception ends the training, Ctrl-C included.
        n_retains: how many files stay. When a new one is on disk, the oldest are deleted that this training, or the one
            that it continues in this directory, has written under this name. -1 keeps all.
        autoload: before training, load the newest file of this name in `trainer.out`, if there is one, into the
            trainer or the target. Newest is what has the highest number in its name. A truncated or damaged file is
            left out with a warning, and the one before is taken. A trainer that the script has loaded stays as it is.
            A job that is started again after a failure (`distrain run --max-restarts`) loads the newest snapshot of the
            trainer that it has written without this too.

    Raises:
        ArgumentError: `n_retains` is no number of files.
    """
    return Snapshot(target, filename, savefun or save_npz, condition, snapshot_on_error, n_retains, autoload)


def snapshot_object(
    target: Any,
    filename: str,
    savefun: SaveFunction | None = None,
    *,
    condition: Callable[[], bool] | None = None,
    snapshot_on_error: bool = False,
    n_retains: int = -1,
    autoload: bool = False,
) -> Snapshot:
    """An extension that saves an object, such as the model, once an epoch unless `extend` is given another trigger.

    Args:
        target: what to save.
        filename: name of the file in `trainer.out`, formatted with the trainer: "model_epoch_{.updater.epoch}".
        savefun: writes the file: `savefun(path, object)`; `serializers.save_npz` by default.
        condition, snapshot_on_error, n_retains, autoload: see `snapshot`.
    """
    return Snapshot(target, filename, savefun or save_npz, condition, snapshot_on_error, n_retains, autoload)
