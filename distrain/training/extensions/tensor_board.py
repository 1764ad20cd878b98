"""An extension that writes the log for TensorBoard."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from distrain.errors import ArgumentError
from distrain.training.extension import Extension, RunsOn

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class TensorBoard(Extension):
    """Writes each number of each entry of the log as a scalar that TensorBoard shows, on rank 0.

        trainer.extend(extensions.LogReport(trigger=(100, "iteration")))
        trainer.extend(extensions.TensorBoard())          # then: tensorboard --logdir result

    The step is the iteration. After a resume the entries of the snapshot are not written again, and TensorBoard leaves
    out what an interrupted run had written beyond it. Needs tensorboardX: `pip install 'distrain[tensorboard]'`.

    Args:
        log_report: name of the LogReport in the trainer.
        folder: where the files go, in `trainer.out`.

    Raises:
        ArgumentError: tensorboardX is not installed.
    """

    runs_on: RunsOn = "rank0"

    def __init__(self, log_report: str = "LogReport", folder: str = "tensorboard") -> None:
        if importlib.util.find_spec("tensorboardX") is None:
            raise ArgumentError("TensorBoard needs tensorboardX: pip install 'distrain[tensorboard]'")
        self._log_report = log_report
        self._folder = folder
        self._written = 0
        self._writer: Any = None

    def initialize(self, trainer: Trainer) -> None:
        """Opens the file."""
        from tensorboardX import SummaryWriter

        self._written = len(trainer.get_extension(self._log_report).log)
        iteration = trainer.updater.iteration
        self._writer = SummaryWriter(
            os.path.join(trainer.out, self._folder),
            purge_step=iteration + 1 if iteration else None,
            filename_suffix=f".{os.getpid()}.{iteration}",  # two of one second would be one file
        )

    def __call__(self, trainer: Trainer) -> None:
        """Writes what has come to the log since the last call."""
        log = trainer.get_extension(self._log_report).log
        if len(log) > self._written:
            for entry in log[self._written :]:
                for key, value in entry.items():
                    if key != "iteration" and isinstance(value, (int, float)):
                        self._writer.add_scalar(key, value, entry["iteration"])
            self._written = len(log)

    def finalize(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
