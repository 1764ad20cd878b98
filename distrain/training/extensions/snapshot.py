"""Extensions that save the training, or a part of it, to a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distrain.comm import Communicator
from distrain.errors import ArgumentError, WorldError
from distrain.files import fsync_directory
from distrain.serializers import save_npz
from distrain.training.extension import Extension, RunsOn
from distrain.training.persistents import average_over_ranks

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

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

    Attributes:
        comm: the ranks that save together; None is those of the trainer.
    """

    trigger = (1, "epoch")
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
    ) -> None:
        self.target, self.filename, self.savefun = target, filename, savefun
        self.condition, self.snapshot_on_error = condition, snapshot_on_error
        if target is None:
            self.priority = -300  # after all others, whose triggers then know this iteration

    @property
    def default_name(self) -> str:
        """The name that it has in Chainer's snapshots."""
        return "_Snapshot"

    def initialize(self, trainer: Trainer) -> None:
        """Checks the name of the file, before anything could be lost.

        Raises:
            ArgumentError: it cannot be formatted with the trainer.
        """
        try:
            self.filename.format(trainer)
        except (AttributeError, LookupError, ValueError) as error:
            raise ArgumentError(
                f"the file name {self.filename!r} cannot be formatted with the trainer ({error}); it may say "
                "'{.updater.iteration}' or '{.updater.epoch}'"
            ) from error

    def __call__(self, trainer: Trainer) -> None:
        """Saves.

        Raises:
            OSError: the file cannot be written; on rank 0.
            WorldError: likewise, on the other ranks.
        """
        comm = self.comm or trainer.comm
        if self.condition is not None and not comm.bcast_obj(comm.rank == 0 and bool(self.condition())):
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
                raise WorldError(f"rank 0 could not save {self.filename.format(trainer)!r} ({said})")
        if failure is not None:
            raise failure

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
        else:
            links = [optimizer.target for optimizer in trainer.updater.get_all_optimizers().values()]
            trainer.gather()
        for link in links:
            average_over_ranks(link, comm)

    def _save(self, trainer: Trainer) -> None:
        target = trainer if self.target is None else self.target
        path = os.path.join(trainer.out, self.filename.format(trainer))
        directory = os.path.dirname(path) or "."
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".snapshot", dir=directory) as aside:
            temporary = os.path.join(aside, os.path.basename(path))
            self.savefun(temporary, target)
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        fsync_directory(Path(directory))


def snapshot(
    savefun: SaveFunction | None = None,
    filename: str = "snapshot_iter_{.updater.iteration}",
    *,
    target: Any = None,
    condition: Callable[[], bool] | None = None,
    snapshot_on_error: bool = False,
) -> Snapshot:
    """An extension that saves the whole trainer, once an epoch unless `extend` is given another trigger.

    `serializers.load_npz(path, trainer)` continues from the file.

    Args:
        savefun: writes the file: `savefun(path, object)`; `serializers.save_npz` by default.
        filename: its name in `trainer.out`, formatted with the trainer.
        target: what to save instead of the trainer.
        condition: called without arguments on rank 0; nothing is saved where it says False.
        snapshot_on_error: also save when an exception ends the training, Ctrl-C included.
    """
    return Snapshot(target, filename, savefun or save_npz, condition, snapshot_on_error)


def snapshot_object(
    target: Any,
    filename: str,
    savefun: SaveFunction | None = None,
    *,
    condition: Callable[[], bool] | None = None,
    snapshot_on_error: bool = False,
) -> Snapshot:
    """An extension that saves an object, such as the model, once an epoch unless `extend` is given another trigger.

    Args:
        target: what to save.
        filename: name of the file in `trainer.out`, formatted with the trainer: "model_epoch_{.updater.epoch}".
        savefun: writes the file: `savefun(path, object)`; `serializers.save_npz` by default.
        condition, snapshot_on_error: see `snapshot`.
    """
    return Snapshot(target, filename, savefun or save_npz, condition, snapshot_on_error)
