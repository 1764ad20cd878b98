"""An extension that writes the log for MLflow."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distrain.errors import ArgumentError
from distrain.training.extensions.entry_writer import EntryWriter, Outcome, facts

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_AT_ONCE = 1000  # metrics that a server takes in one request
_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # in names of metrics
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflowLogger(EntryWriter):
    """Writes each number of each entry of the log as a metric of an MLflow run, on rank 0.

        trainer.extend(extensions.LogReport())
        trainer.extend(extensions.MLflowLogger("digits", parameters={"units": 100}))

    The step is the iteration. Seed, number of ranks and what you give are its parameters. A training that is resumed
    from a snapshot goes on with the same run. A server that does not answer does not end the training: see
    `EntryWriter`.
    Needs MLflow: `pip install 'distrain[mlflow]'`.

    Args:
        experiment: its name; it is made if there is none. None takes what MLFLOW_EXPERIMENT_NAME says, or the default.
        run_name: for the list of runs; None: MLflow makes one up.
        parameters: to note with the run, by name.
        tracking_uri: of the server, folder or database; None takes what MLFLOW_TRACKING_URI says, or MLflow's default.
        log_report: name of the LogReport in the trainer.

    Raises:
        ArgumentError: MLflow is not installed.
    """

    def __init__(
        self,
        experiment: str | None = None,
        run_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tracking_uri: str | None = None,
        log_report: str = "LogReport",
    ) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise ArgumentError("MLflowLogger needs MLflow: pip install 'distrain[mlflow]'")
        super().__init__(log_report)
        self._experiment = experiment
        self._run_name = run_name
        self._parameters = dict(parameters or {})
        self._tracking_uri = tracking_uri
        self._client: Any = None
        self._run_id = ""

    def open(self, trainer: Trainer) -> None:
        """Makes the run, or finds that of the snapshot."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(self._tracking_uri)
        if self._run_id:
            self._client.update_run(self._run_id, status="RUNNING")
            return
        run = self._client.create_run(self._experiment_id(), run_name=self._run_name)
        self._run_id = run.info.run_id
        parameters = [Param(name, str(value)) for name, value in {**facts(trainer), **self._parameters}.items()]
        self._client.log_batch(self._run_id, params=parameters)

    def _experiment_id(self) -> str:
        from mlflow.environment_variables import MLFLOW_EXPERIMENT_NAME

        name = self._experiment or MLFLOW_EXPERIMENT_NAME.get()
        if name is None:
            return "0"
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def write(self, entries: list[dict[str, Any]]) -> None:
        """Writes the numbers of the entries."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(_FORBIDDEN.sub("_", key), float(value), now, int(entry["iteration"]))
            for entry in entries
            for key, value in entry.items()
            if key != "iteration" and isinstance(value, (int, float))
        ]
        for i in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(self._run_id, metrics=metrics[i : i + _AT_ONCE])

    def close(self, outcome: Outcome) -> None:
        """Says how the training has ended."""
        self._client.set_terminated(self._run_id, _STATUS[outcome])

    def serialize(self, serializer: Any) -> None:
        """Writes or reads which run it is."""
        self._run_id = serializer("run_id", self._run_id) or ""
