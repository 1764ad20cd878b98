from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distrain_launch.cli import main


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


Submit = Callable[..., Ended]


@pytest.fixture
def submit(capfd: pytest.CaptureFixture[str]) -> Submit:
    """The command, in this process: `submit(*arguments)`."""

    def call(*arguments: str) -> Ended:
        try:
            code = main(["submit", *arguments])
        except SystemExit as end:  # argparse
            code = int(str(end.code))
        return Ended(code, *capfd.readouterr())

    return call


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a script, and with a place for commands that stands alone on the PATH."""
    (tmp_path / "Train_it 2.py").write_text("")
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def command(folder: Path, name: str, body: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


IMAGE = ["--container", "x:1"]


@pytest.mark.parametrize(
    ("system", "options", "name", "call"),
    [
        ("slurm", [], "sbatch", "{}/train-it-2.slurm.sh"),
        ("pbs", [], "qsub", "{}/train-it-2.pbs.sh"),
        ("lsf", [], "bsub", ""),
        ("sge", [], "qsub", "{}/train-it-2.sge.sh"),
        ("flux", [], "flux", "batch {}/train-it-2.flux.sh"),
        ("kubernetes", IMAGE, "kubectl", "apply -f {}/train-it-2.kubernetes.json"),
    ],
)
def test_submits(submit: Submit, folder: Path, system: str, options: list[str], name: str, call: str) -> None:
    command(folder, name, 'echo "job 17: $*"; while read -r line; do echo "$line"; done > read; echo careful >&2')
    done = submit(f"--{system}", *options, "Train_it 2.py", "--epoch", "1")
    assert done.stdout == f"job 17: {call.format(folder)}".strip() + "\n"
    (path,) = folder.glob("train-it-2.*")
    assert done.stderr == f"distrain: wrote {path.name}\ncareful\n"
    assert ("#BSUB" in (folder / "read").read_text()) == (system == "lsf")
    assert "--epoch" in path.read_text()
    assert submit(f"--{system}", *options, "Train_it 2.py").returncode == 0
    assert "--epoch" not in path.read_text()


@pytest.mark.parametrize("system", ["slurm", "pbs", "lsf", "sge", "flux", "kubernetes"])
def test_dry_run_shows_and_leaves_nothing(submit: Submit, folder: Path, system: str) -> None:
    before = sorted(folder.iterdir())
    options = IMAGE if system == "kubernetes" else []
    done = submit(f"--{system}", *options, "--dry-run", "Train_it 2.py")
    assert "Train_it 2.py" in done.stdout
    assert sorted(folder.iterdir()) == before
    again = submit(f"--{system}", *options, "--dry-run", "--output", "job", "Train_it 2.py")
    assert again.stdout == done.stdout == (folder / "job").read_text()


def test_options_reach_the_script(submit: Submit, folder: Path) -> None:
    options = ["--nodes", "2", "--gpus-per-node", "4", "--cores-per-rank", "2", "--time", "1-00:00:00", "--name", "x"]
    options += ["--account", "a", "--partition", "q", "--module", "m", "--module", "n", "--setup", "true"]
    options += ["--env", "A=b=c", "--directive=--qos=z", "--mpi", "pmix", "--python", "py", "--dry-run"]
    text = submit("--slurm", *options, "Train_it 2.py", "--nodes", "3").stdout
    for line in ["#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4", "#SBATCH --time=24:00:00", "#SBATCH --qos=z"]:
        assert line in text.splitlines()
    for line in ["#SBATCH --account=a", "#SBATCH --partition=q", "module load n", "true", "    A=b=c"]:
        assert line in text.splitlines()
    assert f"cd {folder}" in text
    assert "py 'Train_it 2.py' --nodes 3)" in text
    text = submit("--kubernetes", *IMAGE, "--dry-run", "/in/the/image.py").stdout
    assert json.loads(text)["metadata"]["name"] == "image"


def test_without_the_tool_the_script_stays(submit: Submit, folder: Path) -> None:
    done = submit("--slurm", "--output", "a b.sh", "Train_it 2.py")
    assert done.returncode == 2
    assert "sbatch of Slurm is not on the PATH" in done.stderr
    assert "sbatch a b.sh" in done.stderr
    assert (folder / "a b.sh").read_text().startswith("#!/bin/bash\n")


def test_what_the_tool_refuses(submit: Submit, folder: Path) -> None:
    command(folder, "qsub", "echo 'qsub: Unknown queue' >&2; exit 170")
    done = submit("--pbs", "Train_it 2.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "qsub train-it-2.pbs.sh ended with code 170: qsub: Unknown queue" in done.stderr
    assert (folder / "train-it-2.pbs.sh").exists()


def test_other_files_are_not_replaced(submit: Submit, folder: Path) -> None:
    command(folder, "sbatch", "echo never > called")
    for output, words in [("Train_it 2.py", "not of distrain submit"), ("nowhere/x.sh", "cannot be written")]:
        done = submit("--slurm", "--output", output, "Train_it 2.py")
        assert done.returncode == 2
        assert words in done.stderr
    assert (folder / "Train_it 2.py").read_text() == ""
    assert not (folder / "called").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--slurm", "--pbs", "Train_it 2.py"], ["--pbs", "not allowed with", "--slurm"]),
        (["Train_it 2.py"], ["one of the arguments --slurm"]),
        (["--slurm", "nowhere.py"], ["nowhere.py does not exist", "looked in"]),
        (["--slurm", "bin"], ["bin is not a file"]),
        (["--slurm", "--nodes", "0", "Train_it 2.py"], ["--nodes 0"]),
        (["--slurm", "--nodes", "two", "Train_it 2.py"], ["invalid int value"]),
        (["--slurm", "--time", "4h", "Train_it 2.py"], ["--time 4h", "4:00:00"]),
        (["--slurm", "--name", "a;b", "Train_it 2.py"], ["--name 'a;b'"]),
        (["--slurm", "--name", "", "Train_it 2.py"], ["--name ''"]),
        (["--slurm", "--env", "A", "Train_it 2.py"], ["--env A", "NAME=value"]),
        (["--slurm", "--mpi", "pmi2", "--mpiexec", "x", "Train_it 2.py"], ["--mpiexec x", "srun"]),
        (["--flux", "--mpiexec", "x", "Train_it 2.py"], ["--mpiexec x", "flux run"]),
        (["--kubernetes", "Train_it 2.py"], ["--container"]),
    ],
)
def test_bad_requests_are_refused_at_once(submit: Submit, folder: Path, arguments: list[str], words: list[str]) -> None:
    result = submit(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["Train_it 2.py", "bin"]


DOCS = Path(__file__).parents[3] / "docs" / "batch.md"


@pytest.mark.parametrize("line", re.findall(r"^distrain submit (.+)$", DOCS.read_text(), re.MULTILINE))
def test_lines_of_the_documentation(submit: Submit, folder: Path, line: str) -> None:
    (folder / "train.py").write_text("")
    done = submit("--dry-run", *shlex.split(line))
    assert done.returncode == 0, done.stderr
    assert "train.py" in done.stdout


def test_from_a_command_line(mpi: Any, folder: Path) -> None:
    command(folder, "sbatch", "echo Submitted batch job 17")
    done = mpi.run([sys.executable, "-m", "distrain_launch", "submit", "--slurm", "Train_it 2.py"]).check()
    assert done.stdout == "Submitted batch job 17\n"
    assert sys.executable in (folder / "train-it-2.slurm.sh").read_text()
