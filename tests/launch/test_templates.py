"""The batch scripts to copy: that they are scripts, and start the ranks they speak of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TEMPLATES = sorted((Path(__file__).parents[2] / "launch" / "templates").glob("*.sh"))
LIMIT_S = 60.0
PROGRAM = ["python", "train.py", "--epoch", "20"]
STARTED = {
    "slurm": ["mpiexec", "-n", "8", *PROGRAM],
    "pbs": ["mpiexec", "-n", "8", *PROGRAM],
    "lsf": ["mpiexec", "-n", "8", *PROGRAM],
    "sge": ["mpiexec", "-host", "a:4,b:4", "-n", "8", *PROGRAM],
    "flux": ["flux", "run", "--nodes=2", "--ntasks=8", "--cores-per-task=8", *PROGRAM],
}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_they_start_the_ranks(path: Path, tmp_path: Path) -> None:
    for name in ("mpiexec", "flux", "module"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\nprintf '%s\\n' {name} \"$@\" > said-{name}\n")
        tool.chmod(0o755)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text("")
    (tmp_path / "hosts").write_text("a 32 q UNDEFINED\nb 32 q UNDEFINED\n")
    environ = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}/usr/bin:/bin", "HOME": str(tmp_path)}
    environ |= {"PBS_O_WORKDIR": str(tmp_path), "PE_HOSTFILE": "hosts"}
    done = subprocess.run(["bash", path], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    started = STARTED[path.stem]
    assert (tmp_path / f"said-{started[0]}").read_text().split() == started


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_shellcheck_finds_no_fault(path: Path) -> None:
    check = ["shellcheck", "--exclude=SC1091", path]  # it cannot follow the user's activate
    done = subprocess.run(check, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout


def test_they_ask_for_what_distrain_submit_asks_for() -> None:
    golden = Path(__file__).parent / "golden"
    for path in TEMPLATES:
        options = set(re.findall(r"^(?:#[A-Z]+|#\$|# flux:) (-+[\w-]+)", path.read_text(), re.MULTILINE))
        written = set(
            re.findall(r"^(?:#[A-Z]+|#\$|# flux:) (-+[\w-]+)", (golden / path.name).read_text(), re.MULTILINE)
        )
        assert options
        assert options <= written
