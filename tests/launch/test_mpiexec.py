from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distrain.errors import LaunchError
from distrain_launch.hosts import Host
from distrain_launch.mpiexec import Command, Machine, Mpiexec, command, find, implementation

AS_ROOT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("mpiexec (Open MPI) 5.0.11\n", "openmpi"),
        ("mpiexec (OpenRTE) 4.1.2\n", "openmpi"),
        ("HYDRA build details:\n    Version: 5.0.2\n", "hydra"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005\n", "hydra"),
    ],
)
def test_implementation(version: str, expected: str) -> None:
    assert implementation(version, "mpiexec") == expected


def test_an_unknown_make_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"/x/mpiexec is of an unknown make.*it says: mpich-1\.2"):
        implementation("mpich-1.2\n", "/x/mpiexec")


@pytest.mark.parametrize(
    ("make", "count", "machine", "options", "variables"),
    [
        ("hydra", 2, Machine(2, False), ["-n", "2"], {}),
        ("hydra", 9, Machine(2, True), ["-n", "9"], {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1"}),
        ("openmpi", 2, Machine(2, False), ["-n", "2", "--bind-to", "none"], {}),
        ("openmpi", 3, Machine(2, False), ["-n", "3", "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"], {}),
        ("openmpi", 2, Machine(2, True), ["-n", "2", "--bind-to", "none"], AS_ROOT),
    ],
)
def test_command(make: str, count: int, machine: Machine, options: list[str], variables: dict[str, str]) -> None:
    made = command(Mpiexec("/x/mpiexec", make), count, ["python", "a b.py", "-n"], machine)
    assert made == Command(["/x/mpiexec", *options, "python", "a b.py", "-n"], variables)


AB, AAB = [Host("a", 2), Host("b", 2)], [Host("a", 2), Host("b", 1)]


@pytest.mark.parametrize(
    ("make", "count", "hosts", "options"),
    [
        ("hydra", 4, AB, ["-n", "4", "-hosts", "a,b", "-ppn", "2"]),
        ("hydra", 3, AAB, ["-n", "3", "-hosts", "a:2,b:1"]),
        ("openmpi", 4, AB, ["-n", "4", "--bind-to", "none", "--host", "a:2,b:2", "--map-by", "slot", "-x", "X"]),
        (
            "openmpi",
            4,
            AAB,
            ["-n", "4", "--bind-to", "none", "--host", "a:2,b:1", "--map-by", "slot:OVERSUBSCRIBE", "-x", "X"],
        ),
    ],
)
def test_command_for_several_hosts(make: str, count: int, hosts: list[Host], options: list[str]) -> None:
    made = command(Mpiexec("/x/mpiexec", make), count, ["python"], Machine(1, False), hosts, ["X"])
    assert made == Command(["/x/mpiexec", *options, "python"], {})


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_mpiexec_beside_the_interpreter_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = _program(tmp_path / "env" / "mpiexec", "echo 'HYDRA build details:'")
    on_path = _program(tmp_path / "site" / "mpiexec", "echo 'mpiexec (Open MPI) 5.0.1'")
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")
    python = str(beside.parent / "python")
    assert find(python=python) == Mpiexec(str(beside), "hydra")
    assert find(str(on_path), python) == Mpiexec(str(on_path), "openmpi")
    beside.unlink()
    assert find(python=python) == Mpiexec(str(on_path), "openmpi")
    on_path.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match=r"no mpiexec was found.*pip install distrain\[mpich\]"):
        find(python=python)
    with pytest.raises(LaunchError, match="--mpiexec"):
        find(str(tmp_path / "nowhere"), sys.executable)
