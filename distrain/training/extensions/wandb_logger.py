"""An extension that writes the log for Weights & Biases."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distrain.errors import ArgumentError
from distrain.training.extensions.entry_writer import EntryWriter, Outcome, facts

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class WandbLogger(EntryWriter):
    """Writes each number of each entry of the log to a run of Weights & Biases, on rank 0.

        trainer.extend(extensions.LogReport())
        trainer.extend(extensions.WandbLogger("digits", parameters={"units": 100}))

    Curves are drawn over the iteration. Seed, number of ranks and what you give are its configuration. A training that
    is resumed from a snapshot goes on with the same run. With WANDB_MODE=offline everything stays in `trainer.out`, for
    `wandb sync`. Needs wandb: `pip install 'distrain[wandb]'`.

    Args:
        project: its name; None takes what WANDB_PROJECT says.
        run_name: for the list of runs; None: one is made up.
        parameters: to note with the run, by name.
        options: more arguments of `wandb.init`, as "entity" or "tags".
        log_report: name of the LogReport in the trainer.

    Raises:
        ArgumentError: wandb is not installed.
    """

    def __init__(
        self,
        project: str | None = None,
        run_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        log_report: str = "LogReport",
    ) -> None:
        if importlib.util.find_spec("wandb") is None:
            raise ArgumentError("WandbLogger needs wandb: pip install 'distrain[wandb]'")
        super().__init__(log_report)
        self._project = project
        self._run_name = run_name
        self._parameters = dict(parameters or {})
        self._options = dict(options or {})
        self._run: Any = None
        self._run_id = ""

    def open(self, trainer: Trainer) -> None:
        """Starts the run, or goes on with that of the snapshot."""
        import wandb

        self._run = wandb.init(
            **{
                "project": self._project,
                "name": self._run_name,
                "dir": trainer.out,
                "config": {**facts(trainer), **self._parameters},
                "id": self._run_id or None,
                "resume": "allow" if self._run_id else None,
                **self._options,
            }
        )
        self._run_id = self._run.id
        self._run.define_metric("iteration")  # wandb's own steps could not go back to where a snapshot was made
        self._run.define_metric("*", step_metric="iteration")

    def write(self, entries: list[dict[str, Any]]) -> None:
        """Writes the numbers of the entries."""
        for entry in entries:
            self._run.log({key: value for key, value in entry.items() if isinstance(value, (int, float))})

    def close(self, outcome: Outcome) -> None:
        """Ends the run, and waits until all is written."""
        self._run.finish(exit_code=0 if outcome == "finished" else 1)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads which run it is."""
        self._run_id = serializer("run_id", self._run_id) or ""
