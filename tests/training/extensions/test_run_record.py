from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from distrain import rng, serializers
from distrain.training import extensions

SCRIPT = """
import sys
import distrain.links as L
from distrain import optimizers, serializers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

optimizer = optimizers.SGD(0.1).setup(L.Classifier(L.Linear(1, 2)))
updater = training.StandardUpdater(SerialIterator([(float(i), i % 2) for i in range(4)], 4), optimizer)
updater.update_core = lambda: next(updater.get_iterator("main"))
trainer = training.Trainer(updater, (2, "iteration"), sys.argv[1])
trainer.extend(extensions.RunRecord())
trainer.run()
"""


@pytest.mark.mpi
def test_says_what_one_needs_to_repeat_it(run_ranks, tmp_path):
    for n in (1, 2):
        script, out = tmp_path / f"{n}" / "train.py", tmp_path / f"result {n}"
        script.parent.mkdir()
        script.write_text(SCRIPT)
        git = ["git", "-C", str(script.parent), "-c", "user.name=a", "-c", "user.email=a@b.c"]
        for command in (["init", "-q"], ["add", "train.py"], ["commit", "-q", "-m", "one"]):
            subprocess.run([*git, *command], check=True, timeout=20)
        env = {"OMP_NUM_THREADS": "1", "DISTRAIN_SEED": "77", "SECRET_TOKEN": "x", "SLURM_JWT": "y"}
        run_ranks(script, n, str(out), env=env).check()
        (start,) = json.loads((out / "run.json").read_text())["starts"]
        assert start["command"][1:] == [str(script), str(out)]
        assert start["seed"] == 77
        assert start["world"]["ranks"] == n
        assert len(start["world"]["hosts"]) == n
        assert start["versions"]["numpy"] == np.__version__
        assert start["versions"]["python"] == sys.version.split()[0]
        assert start["environment"].items() >= {"OMP_NUM_THREADS": "1", "DISTRAIN_SEED": "77"}.items()
        assert not {"SECRET_TOKEN", "SLURM_JWT"} & start["environment"].keys()
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20, check=True)
        assert start["git"] == {"revision": head.stdout.strip(), "is_changed": False}
        script.write_text(SCRIPT + "# changed\n")
        run_ranks(script, 1, str(out)).check()
        (start,) = json.loads((out / "run.json").read_text())["starts"]
        assert start["git"]["is_changed"]


def test_a_resumed_run_adds_its_start(make_trainer, tmp_path):
    def make():
        trainer = make_trainer((3, "iteration"))
        trainer.extend(extensions.RunRecord())
        trainer.extend(extensions.snapshot(), trigger=(2, "iteration"))
        return trainer

    make().run()
    resumed = make()
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_2", resumed)
    resumed.run()
    starts = json.loads((tmp_path / "result" / "run.json").read_text())["starts"]
    assert [start["iteration"] for start in starts] == [0, 2]
    assert starts[0]["seed"] == rng.seed()
    (tmp_path / "result" / "run.json").write_text('{"half')  # left by somebody else
    resumed = make()
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_2", resumed)
    resumed.run()
    assert len(json.loads((tmp_path / "result" / "run.json").read_text())["starts"]) == 1
