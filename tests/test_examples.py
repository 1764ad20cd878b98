"""The examples, run shortened, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(name: str, *args: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, args)],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "launch")]),
            "DISTRAIN_DATASET_ROOT": str(cwd / "datasets"),
            "DISTRAIN_SEED": "1",
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def log(out: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((out / "log").read_text())
    return entries


def test_default_run_recognises_96_percent(tmp_path: Path) -> None:
    printed = run("train_mnist.py", cwd=tmp_path)
    out = tmp_path / "result"
    assert log(out)[-1]["validation/main/accuracy"] >= 0.96
    assert "validation/main/accuracy" in printed
    assert {"log", "cg.dot", "mlp.npz"} <= {p.name for p in out.iterdir()}
    shown = run("inference.py", out / "mlp.npz", "-n", 3, cwd=tmp_path)
    assert len(re.findall(r"recognised as \d, labelled \d", shown)) == 3


def test_resumed_run_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    run("train_mnist.py", "-e", 4, "-o", "whole", cwd=tmp_path)
    run("train_mnist.py", "-e", 2, "-o", "parts", cwd=tmp_path)
    newest = max((tmp_path / "parts").glob("snapshot_iter_*"), key=lambda p: int(p.name.rsplit("_", 1)[1]))
    run("train_mnist.py", "-e", 4, "-o", "parts", "-r", newest, cwd=tmp_path)
    whole, parts = (np.load(tmp_path / name / "mlp.npz") for name in ("whole", "parts"))
    for key in whole:
        np.testing.assert_array_equal(whole[key], parts[key])
    keys = ("main/loss", "validation/main/loss", "epoch", "iteration")
    assert [[e[k] for k in keys] for e in log(tmp_path / "whole")] == [
        [e[k] for k in keys] for e in log(tmp_path / "parts")
    ]


def test_convolutions_go_on_from_their_snapshot(tmp_path: Path) -> None:
    run("train_cnn.py", "-e", 6, "-o", "whole", cwd=tmp_path)
    entries = log(tmp_path / "whole")
    assert entries[-1]["validation/main/accuracy"] >= 0.96
    for path in (tmp_path / "whole").glob("snapshot_iter_*"):
        if path.name.endswith(f"_{entries[-1]['iteration']}"):
            path.unlink()  # as if it had been stopped in its last epoch
    run("train_cnn.py", "-e", 6, "-o", "whole", cwd=tmp_path)
    again = log(tmp_path / "whole")
    keys = ("epoch", "iteration", "main/loss", "validation/main/loss")
    assert [[entry[key] for key in keys] for entry in again] == [[entry[key] for key in keys] for entry in entries]


def test_unknown_dataset_lists_the_known_ones(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "train_mnist.py", "--dataset", "nist"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.search("invalid choice: 'nist'.*digits.*mnist", done.stderr)


@pytest.mark.mpi
def test_ranks_agree_with_one_process(
    tmp_path: Path, run_ranks: Callable[..., Any], mpi_python: str, ranks: int
) -> None:
    run("train_mnist.py", "-e", 3, "-o", "one", cwd=tmp_path)
    result = run_ranks(
        EXAMPLES / "train_mnist.py",
        ranks,
        "-e",
        "3",
        "-o",
        str(tmp_path / "many"),
        python=mpi_python,
        env={"DISTRAIN_SEED": "1"},
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    for one, many in zip(log(tmp_path / "one"), log(tmp_path / "many"), strict=True):
        for key in ("main/loss", "main/accuracy", "validation/main/loss", "validation/main/accuracy"):
            assert many[key] == pytest.approx(one[key], rel=1e-4), key


@pytest.mark.mpi
def test_custom_loop_says_the_same_on_one_and_two_ranks(tmp_path: Path, run_ranks: Callable[..., Any]) -> None:
    one = run("train_mnist_custom_loop.py", "-e", 3, "-o", "one", cwd=tmp_path)
    result = run_ranks(
        EXAMPLES / "train_mnist_custom_loop.py",
        2,
        "-e",
        "3",
        "-o",
        str(tmp_path / "two"),
        env={"DISTRAIN_SEED": "1"},
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    assert re.findall("epoch .*", result.stdout) == re.findall("epoch .*", one)
