"""The wheel holds what a user needs, and nothing finds its way to the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wheel_trains_and_launches(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT],
        check=True,
        timeout=200,
    )
    (wheel,) = tmp_path.glob("distrain-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "distrain/py.typed" in names
    assert "distrain/datasets/data/digits.npz" in names
    assert "distrain/results/page/page.html" in names
    assert not [n for n in names if n.startswith(("launch/", "tests/", "benchmarks/", "examples/"))]
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = tmp_path / "train.py"
    script.write_text((ROOT / "examples" / "train_mnist.py").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "distrain_launch", "run", "-n", "1", script, "--epoch", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result" / "mlp.npz").exists()
