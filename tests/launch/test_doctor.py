"""`distrain doctor` in good states and in bad ones, each of them real."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import uuid
from pathlib import Path
from typing import Any

import pytest

from distrain_launch.doctor_machine import forks
from distrain_launch.doctor_mpi import version_of
from distrain_launch.doctor_software import PACKAGES, numbers
from distrain_launch.library import short
from distrain_launch.mpiexec import find

DOCTOR = ["-m", "distrain_launch", "doctor"]
LIMIT_S = 30.0
ON_CPU = {"CUDA_VISIBLE_DEVICES": ""}
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def first_on_the_path(mpi: Any, folder: Path) -> str:
    return f"{folder}:{mpi.environment('')['PYTHONPATH']}"


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def by_check(result: Any) -> dict[str, dict[str, str]]:
    """The findings of `--json`; the exit code must fit them."""
    findings = json.loads(result.stdout)
    found = {finding["check"]: finding for finding in findings}
    assert len(found) == len(findings)
    assert all(set(finding) == {"level", "check", "found", "remedy"} for finding in findings)
    assert all((finding["remedy"] is None) == (finding["level"] == "ok") for finding in findings)
    levels = {finding["level"] for finding in findings}
    assert levels <= {"ok", "warning", "problem"}
    assert result.returncode == int("problem" in levels), result.stdout + result.stderr
    return found


@pytest.mark.mpi
def test_all_is_well(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    result = mpi.run([mpi_python, *DOCTOR, "--full", "--json"], env=ON_CPU)
    found = by_check(result)
    assert result.returncode == 0, result.stdout
    assert mpi_python in found["python"]["found"]
    assert found["mpiexec"]["found"].startswith(str(Path(mpi_python).parent / "mpiexec"))
    assert found["mpiexec"]["found"].endswith(", which belongs to that MPI")
    assert found["curve"]["level"] == "ok"
    first, *ranks = found["world"]["found"].splitlines()
    assert first.startswith("2 ranks, started by ")
    assert [line.partition(" on ")[0] for line in ranks] == ["rank 0", "rank 1"]
    assert all(", CPU, " in line for line in ranks)
    assert "the sum is right" in found["allreduce"]["found"]
    assert found["host name"]["level"] == "ok"
    assert found["side channel"]["found"] == "heartbeats and sums for the log came from all ranks"
    assert found["feeders"]["level"] == found["ranks"]["level"] == "ok"
    assert "from `distrain run` to the end of the first allreduce" in found["start"]["found"]
    assert " µs between the ranks" in found["clocks"]["found"]


def test_warnings_name_their_remedies_and_are_no_failure(mpi: Any) -> None:
    limits = "ulimit -n 300; ulimit -f 4194304"
    doctor = ["bash", "-c", f'{limits}; exec "$0" "$@"', sys.executable, *DOCTOR]
    result = mpi.run(doctor, env={**ON_CPU, "OMP_NUM_THREADS": "4096"}).check()
    for lines in (
        "warning open files     300 (ulimit -n; 300 at most)\n                       -> `ulimit -n 1024` or more",
        "warning file size      4.0 GiB (ulimit -f)\n                       -> `ulimit -f unlimited`",
        "BLAS threads as OMP_NUM_THREADS=4096",
        "-> Unset them, and each rank gets ",
    ):
        assert lines in result.stdout
    people, _, block = result.stdout.partition(" For a bug report:\n\n")
    assert people.endswith(" warnings.")
    assert block.startswith("```text\ndistrain doctor: no problems, ")
    assert block.endswith("\n```\n")
    assert "\nopen files: WARNING: 300" in block
    assert all(char.isprintable() or char == "\n" for char in result.stdout)


def test_limits_and_surroundings_in_which_nothing_works(mpi: Any, tmp_path: Path) -> None:
    (tmp_path / "cupy.py").write_text("raise ImportError('libcuda.so.1 is not there')")
    doctor = ["bash", "-c", 'ulimit -n 40; ulimit -f 0; exec "$0" "$@"', sys.executable, *DOCTOR, "--json"]
    environ = {"PMI_RANK": "1", "PMI_SIZE": "2", "CUDA_VISIBLE_DEVICES": "0,0", "PYTHONDONTWRITEBYTECODE": "1"}
    environ["PYTHONPATH"] = first_on_the_path(mpi, tmp_path)
    found = by_check(mpi.run(doctor, env=environ))
    for check, words in {
        "launched by": "hydra: this process is rank 1 of 2",
        "gpus": "CUDA_VISIBLE_DEVICES=0,0 names a GPU twice.",
        "open files": "40 (ulimit -n",
        "file size": "0 MiB (ulimit -f)",
        "memfd": "File too large",
        "temporary": "No usable temporary directory",
        "directory": "File too large",
    }.items():
        assert found[check]["level"] == "problem"
        assert words in found[check]["found"]
    assert found["cupy"]["found"] == "cannot be imported: libcuda.so.1 is not there"
    assert found["launched by"]["remedy"].startswith("Call `distrain doctor` and `distrain run` once, outside")


def test_broken_packages_and_a_muddled_path(mpi: Any, tmp_path: Path) -> None:
    """One that does not import, one that crashes, an MPI that is not found; and the working directory is gone.

    On the PATH are another MPI's mpiexec and a driver without a GPU.
    """
    for path, text in {
        "msgpack/__init__.py": "raise ImportError('no such symbol')",
        "cupy/__init__.py": "import os; os.kill(os.getpid(), 11)",
        "mpi4py/__init__.py": "class rc: pass",
        "mpi4py/MPI.py": "raise RuntimeError('cannot load MPI library')",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    gone = tmp_path / "gone"
    gone.mkdir()
    doctor = ["bash", "-c", f'cd {gone}; rmdir {gone}; exec "$0" "$@"', sys.executable, *DOCTOR, "--json"]
    own = find(python=sys.executable)
    version = "HYDRA 1.2.3" if own.implementation == "openmpi" else "mpiexec (Open MPI) 1.2.3"
    write_program(tmp_path / "mpiexec", f"#!/bin/sh\necho '{version}'\n")
    write_program(tmp_path / "nvidia-smi", "#!/bin/sh\necho NVIDIA-SMI has failed.; exit 9\n")
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": first_on_the_path(mpi, tmp_path)}
    found = by_check(mpi.run(doctor, env={**ON_CPU, **environ}))
    for check, words, remedy in [
        ("msgpack", "cannot be imported: ImportError: no such symbol", "pip install 'msgpack>=1'"),
        ("cupy", "cannot be imported: it was ended by SIGSEGV", "distrain[cuda12]"),
        ("mpi", "cannot load MPI library", "pip install distrain[mpich]"),
        ("directory", "No such file or directory", "Go to a folder"),
    ]:
        assert found[check]["level"] == "problem"
        assert words in found[check]["found"]
        assert remedy in found[check]["remedy"]
    assert found["curve"]["level"] == found["platformdirs"]["level"] == "ok"
    assert found["mpiexec"]["found"].endswith("whether it belongs to mpi4py's MPI is not known")
    assert found["PATH"]["level"] == found["cuda driver"]["level"] == "warning"
    assert f"{tmp_path}/mpiexec comes first, " in found["PATH"]["found"]
    assert found["PATH"]["found"].endswith(f"`distrain run` takes {own.path}")
    assert "finds no GPU: NVIDIA-SMI has failed." in found["cuda driver"]["found"]


NVIDIA_SMI = """#!/bin/sh
case "$*" in
    *driver_version*) echo "570.86, NVIDIA H100 80GB HBM3, 81559 MiB" ;;
    *pci.bus_id*) echo "GPU-aaaa, 00000000:3B:00.0" ;;
    -L) echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa)" ;;
esac
"""


@pytest.mark.mpi
def test_two_ranks_share_a_single_gpu(mpi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is a stand-in, so the ranks train on the CPU in the end."""
    write_program(tmp_path / "nvidia-smi", NVIDIA_SMI)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = by_check(mpi.run([sys.executable, *DOCTOR, "--full", "--json"], env=environ))
    assert found["cuda driver"]["found"] == "driver 570.86: NVIDIA H100 80GB HBM3, 81559 MiB"
    assert found["gpus"]["found"] == "0 (GPU-aaaa) for ranks"
    assert found["plan"]["found"].startswith("`distrain run` starts 1 rank: there is one GPU (0)")
    if importlib.util.find_spec("cupy") is None:
        assert found["cupy"]["found"] == "not installed, but there is a GPU"
    assert found["world"]["found"].startswith("2 ranks")


@pytest.mark.mpi
def test_the_mpiexec_of_another_mpi(mpi: Any) -> None:
    pythons = mpi.interpreters()
    if len(pythons) < 2:
        pytest.skip("needs a second MPI: set DISTRAIN_TEST_PYTHONS to an interpreter that has one")
    one, other = (str(Path(python).parent / "mpiexec") for python in pythons[:2])
    found = by_check(mpi.run([pythons[0], *DOCTOR, "--full", "--json", "--mpiexec", other], env=ON_CPU))
    assert found["mpiexec"]["level"] == found["ranks"]["level"] == "problem"
    assert other in found["mpiexec"]["found"]
    assert "but mpi4py loads" in found["mpiexec"]["found"]
    assert f"`--mpiexec {one}`" in found["mpiexec"]["remedy"]
    assert "before they knew of each other: the exit code is 1" in found["ranks"]["found"]
    assert "the launcher and mpi4py do not belong together" in found["ranks"]["found"]


def test_no_mpiexec(mpi: Any, tmp_path: Path) -> None:
    """An environment with mpi4py, but without the programs that came with its MPI."""
    own = Path(sys.prefix)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "lib").symlink_to(own / "lib")
    (tmp_path / "pyvenv.cfg").write_text((own / "pyvenv.cfg").read_text())
    environ = {**ON_CPU, "PATH": str(tmp_path)}
    result = mpi.run([str(tmp_path / "bin" / "python"), *DOCTOR, "--json", "--full"], env=environ)
    found = by_check(result)
    assert found["mpiexec"]["level"] == "problem"
    assert found["mpiexec"]["found"] == f"no mpiexec was found, neither {tmp_path}/bin/mpiexec nor on the PATH."
    assert "pip install distrain[mpich]" in found["mpiexec"]["remedy"]
    assert "the exit code is 2\ndistrain: no mpiexec was found" in found["ranks"]["found"]


@pytest.fixture
def stuck(tmp_path: Path) -> Path:
    """An mpiexec that starts nothing; it leaves a file when it is asked to."""
    path = tmp_path / "mpiexec"
    ask = '[ "$1" = --version ] && echo "HYDRA 1.2.3" && exit'
    write_program(path, f"#!/bin/sh\n{ask}\ntouch '{tmp_path}/asked'\nexec sleep 1000\n")
    return path


def test_ranks_that_do_not_come_to_an_end(mpi: Any, stuck: Path) -> None:
    result = mpi.run([sys.executable, *DOCTOR, "--full", "--timeout", "1", "--mpiexec", str(stuck)], env=ON_CPU)
    assert result.returncode == 1
    assert "before they knew of each other: they were not over after 1 s" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nobody_is_left_when_it_is_ended(mpi: Any, stuck: Path, number: signal.Signals) -> None:
    doctor = [sys.executable, *DOCTOR, "--full", "--json", "--mpiexec", str(stuck)]
    mark = uuid.uuid4().hex
    environ = mpi.environment(mark, {**ON_CPU, "TMPDIR": str(stuck.parent)})
    process = subprocess.Popen(doctor, env=environ, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + LIMIT_S
        while not (stuck.parent / "asked").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(LIMIT_S) == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert mpi.wait_until_gone(mark, LIMIT_S) == []
    finally:
        mpi.kill_marked(mark)
        process.wait(LIMIT_S)


def test_a_reader_that_leaves_early(mpi: Any) -> None:
    doctor = ["bash", "-c", '"$0" "$@" | head -n 1; exit "${PIPESTATUS[0]}"', sys.executable, *DOCTOR]
    result = mpi.run(doctor, env=ON_CPU)
    assert result.returncode == 128 + signal.SIGPIPE
    assert result.stdout.startswith("ok      python ")
    assert result.stderr == ""


def test_bad_options_are_refused_at_once(mpi: Any) -> None:
    result = mpi.run([sys.executable, *DOCTOR, "--timeout", "0"])
    assert result.returncode == 2
    assert "--timeout 0" in result.stderr


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ("", "other-name is not known here: "),
        ("192.0.2.7 other-name", "other-name leads to 192.0.2.7, which is not this machine"),
        ("127.0.0.1 other-name", None),
    ],
)
def test_the_name_of_the_host(mpi: Any, tmp_path: Path, hosts: str, words: str | None) -> None:
    """In a namespace whose host has another name, and a list of names of its own."""
    tried = subprocess.run(["unshare", "--uts", "--mount", "true"], capture_output=True, timeout=LIMIT_S)
    if tried.returncode:
        pytest.skip("needs the right to make a namespace")
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}\n")
    become = f'hostname other-name && mount --bind "{tmp_path}/hosts" /etc/hosts && exec "$0" "$@"'
    doctor = ["unshare", "--uts", "--mount", "sh", "-c", become, sys.executable, *DOCTOR, "--json"]
    found = by_check(mpi.run(doctor, env=ON_CPU))["host name"]
    if words is None:
        assert (found["level"], found["found"]) == ("ok", "other-name, at 127.0.0.1")
    else:
        assert found["level"] == "warning"
        assert words in found["found"]
        assert "/etc/hosts" in found["remedy"]


def test_forks_beside_infiniband(tmp_path: Path) -> None:
    assert forks(tmp_path, {}).level == "ok"
    (tmp_path / "mlx5_0").touch()
    found = forks(tmp_path, {})
    assert (found.level, "RDMAV_FORK_SAFE=1" in str(found.remedy)) == ("warning", True)
    assert forks(tmp_path, {"IBV_FORK_SAFE": "1"}).level == "ok"


def test_the_table_of_packages_says_what_pyproject_says() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    needed = {f"{p.distribution}>={p.oldest}" for p in PACKAGES if not p.extra}
    assert needed == set(project["dependencies"])
    for package in PACKAGES:
        if package.extra:
            assert f"{package.distribution}>={package.oldest}" in project["optional-dependencies"][package.extra]


@pytest.mark.parametrize(("text", "expected"), [("3.12rc1", (3, 12)), ("25", (25,)), ("2.0.dev1", (2, 0)), ("x", ())])
def test_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("Open MPI v5.0.11, package: Open MPI user@localhost, ident: 5.0.11", "Open MPI v5.0.11", (5, 0, 11)),
        ("MPICH Version:      4.3.2\nMPICH Release date: x", "MPICH 4.3.2", (4, 3, 2)),
        (
            "Intel(R) MPI Library 2021.11 for Linux* OS\n",
            "Intel(R) MPI Library 2021.11 for Linux* OS",
            (2021, 11),
        ),
        ("HYDRA build details:\n    Version:      5.0.2\n", "HYDRA build details:", (5, 0, 2)),
        ("", "", ()),
    ],
)
def test_what_an_mpi_calls_itself(text: str, name: str, version: tuple[int, ...]) -> None:
    assert short(text) == name
    assert version_of(text) == version
