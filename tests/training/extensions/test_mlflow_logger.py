"""MLflow for real, with a store on disk; in processes of its own, as importing it warns and starts threads."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from distrain.errors import ArgumentError
from distrain.training import extensions
from distrain.training.extensions import mlflow_logger

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="there is no mlflow: pip install 'distrain[mlflow]' sqlalchemy"
)

SCRIPT = """
import sys, json
import distrain.links as L
from distrain import datasets, optimizers, serializers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

out, uri, last, *more = sys.argv[1:]
iterator = SerialIterator(datasets.SubDataset(datasets.get_digits()[0], 0, 300), 100, seed=1)
updater = training.StandardUpdater(iterator, optimizers.Adam().setup(L.Classifier(L.Linear(64, 10))))
trainer = training.Trainer(updater, (int(last), "iteration"), out=out)
trainer.extend(extensions.MLflowLogger("digits", "first", {"units": 10}, tracking_uri=uri))
trainer.extend(extensions.LogReport(trigger=(2, "iteration")))
trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
if "fail" in more:
    trainer.extend(lambda t: 1 / 0, name="fail", trigger=(3, "iteration"))
if "resume" in more:
    serializers.load_npz(out + "/snapshot_iter_4", trainer)
try:
    trainer.run()
except ZeroDivisionError:
    pass

from mlflow.tracking import MlflowClient
client = MlflowClient(uri)
runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
history = lambda run, key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
print(json.dumps({
    "log": list(trainer.get_extension("LogReport").log),
    "runs": [[run.info.run_name, run.info.status, run.data.params, history(run, "main/loss")] for run in runs],
}))
"""


def run(tmp_path, store, *arguments, **more):
    uri = f"sqlite:///{tmp_path / 'runs.db'}" if store == "sqlite" else (tmp_path / "runs").as_uri()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "out"), uri, *arguments],
        capture_output=True, text=True, timeout=100, cwd=tmp_path,
        env={**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true", **more},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@needs_mlflow
@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "files"])
def test_the_log_and_what_follows_a_resume_are_one_run(tmp_path, store):
    told, _ = run(tmp_path, store, "6")
    ((name, status, parameters, history),) = told["runs"]
    assert (name, status) == ("first", "FINISHED")
    assert parameters["units"] == "10"
    assert parameters["ranks"] == "1"
    assert parameters["seed"].isdigit()
    assert history == [[entry["iteration"], entry["main/loss"]] for entry in told["log"]]
    told, _ = run(tmp_path, store, "8", "resume")
    ((_, status, _, history),) = told["runs"]
    assert status == "FINISHED"
    assert sorted({step for step, _ in history}) == [2, 4, 6, 8]
    assert [entry["iteration"] for entry in told["log"]] == [2, 4, 6, 8]


@needs_mlflow
@pytest.mark.slow
def test_a_training_that_fails(tmp_path):
    told, _ = run(tmp_path, "sqlite", "6", "fail")
    ((_, status, _, history),) = told["runs"]
    assert status == "FAILED"
    assert [step for step, _ in history] == [2]


def test_says_how_to_get_the_package(monkeypatch):
    monkeypatch.setattr(mlflow_logger.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"MLflowLogger needs MLflow: pip install 'distrain\[mlflow\]'"):
        extensions.MLflowLogger()
