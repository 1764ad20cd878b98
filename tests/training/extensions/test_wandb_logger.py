"""Weights & Biases for real, offline; in processes of its own, as it starts a service."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from distrain.errors import ArgumentError
from distrain.training import extensions
from distrain.training.extensions import wandb_logger

needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="there is no wandb: pip install 'distrain[wandb]'"
)

SCRIPT = """
import sys, json
import distrain.links as L
from distrain import datasets, optimizers, serializers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

out, last, *more = sys.argv[1:]
iterator = SerialIterator(datasets.SubDataset(datasets.get_digits()[0], 0, 300), 100, seed=1)
updater = training.StandardUpdater(iterator, optimizers.Adam().setup(L.Classifier(L.Linear(64, 10))))
trainer = training.Trainer(updater, (int(last), "iteration"), out=out)
trainer.extend(extensions.WandbLogger("digits", "first", {"units": 10}, {"tags": ["test"]}))
trainer.extend(extensions.LogReport(trigger=(2, "iteration")))
trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
if "resume" in more:
    serializers.load_npz(out + "/snapshot_iter_4", trainer)
trainer.run()
print(json.dumps(list(trainer.get_extension("LogReport").log)))
"""

READ = """
import sys, json
from wandb.proto import wandb_internal_pb2

def records(data):
    # In LevelDB's log format: blocks of 32 kB, in which a piece follows its checksum, length and kind.
    at, record = 7, b""
    while at + 7 <= len(data):
        if at % 32768 > 32768 - 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole one, or the last piece
            yield record
            record = b""

found = {"history": [], "config": {}}
for data in records(open(sys.argv[1], "rb").read()):
    record = wandb_internal_pb2.Record.FromString(data)
    kind = record.WhichOneof("record_type")
    if kind == "run":
        found |= {"id": record.run.run_id, "project": record.run.project, "name": record.run.display_name}
        found["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    elif kind == "history":
        items = record.history.item
        found["history"].append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
    elif kind == "exit":
        found["exit"] = record.exit.exit_code
print(json.dumps(found))
"""


def run(tmp_path, script, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)],
        capture_output=True, text=True, timeout=110, cwd=tmp_path,
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_wandb
@pytest.mark.slow
def test_the_log_and_what_follows_a_resume_are_one_run(tmp_path):
    log = run(tmp_path, SCRIPT, tmp_path / "out", "6")
    (path,) = (tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb")
    told = run(tmp_path, READ, path)
    assert (told["project"], told["name"], told["exit"]) == ("digits", "first", 0)
    assert told["config"]["units"] == 10
    assert told["config"]["ranks"] == 1
    written = [{key: value for key, value in entry.items() if key[0] != "_"} for entry in told["history"]]
    assert written == log
    run(tmp_path, SCRIPT, tmp_path / "out", "8", "resume")
    others = set((tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb")) - {path}
    again = run(tmp_path, READ, others.pop())
    assert again["id"] == told["id"]
    assert [entry["iteration"] for entry in again["history"]] == [6, 8]


def test_says_how_to_get_the_package(monkeypatch):
    monkeypatch.setattr(wandb_logger.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"WandbLogger needs wandb: pip install 'distrain\[wandb\]'"):
        extensions.WandbLogger()
