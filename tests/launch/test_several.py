from __future__ import annotations

import os
from pathlib import Path

import pytest

from distrain.env import RankInfo
from distrain.errors import ArgumentError, LaunchError
from distrain_launch.abroad import Abroad
from distrain_launch.link import VARIABLE
from distrain_launch.plan import Place
from distrain_launch.several import Wish, given, start


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"hosts": "a:1", "hostfile": "f"}, "--hosts a:1 and --hostfile f: give one of them"),
        ({"hosts": "a:1", "launcher": "srun"}, "Slurm says which hosts there are"),
        ({"mpiexec": "/x/mpiexec", "launcher": "srun"}, "--mpiexec /x/mpiexec and --launcher srun: give one of them"),
    ],
)
def test_wishes_that_contradict_each_other(wish: dict[str, str], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Wish(**wish)  # type: ignore[arg-type]


def test_a_job_of_this_machine() -> None:
    assert start(Wish(), 2, {}) is None
    assert start(Wish(), 2, {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}) is None
    with pytest.raises(LaunchError, match="this is no allocation of Slurm"):
        start(Wish(launcher="srun"), 2, {})


def test_hosts_that_are_given(tmp_path: Path) -> None:
    program = tmp_path / "mpiexec"
    program.write_text("#!/bin/sh\necho 'mpiexec (Open MPI) 5.0.1'\n")
    program.chmod(0o755)
    environ = {"DISTRAIN_SEED": "1", "PYTHONPATH": "x", "HOME": "/", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    made = start(Wish(hosts="localhost:2,127.0.0.1:2", mpiexec=str(program)), 3, environ)
    assert made is not None
    assert (made.ranks, made.hosts, made.is_bound) == (3, ["localhost", "127.0.0.1"], False)
    assert made.reason == f"3 ranks on localhost, 127.0.0.1, started by {program}"
    words = made.command(["keeper"]).arguments
    assert words[words.index("--host") + 1] == "localhost:2,127.0.0.1:2"
    passed_on = [after for word, after in zip(words, words[1:], strict=False) if word == "-x"]
    assert passed_on == sorted(["CUDA_VISIBLE_DEVICES", VARIABLE, "DISTRAIN_SEED", "OMP_NUM_THREADS", "PYTHONPATH"])


def test_other_hosts_take_the_place_of_absent_ones(tmp_path: Path) -> None:
    program = tmp_path / "mpiexec"
    program.write_text("#!/bin/sh\necho 'mpiexec (Open MPI) 5.0.1'\n")
    program.chmod(0o755)
    wish = Wish(hosts="gone:2,localhost:1,127.0.0.1:2", mpiexec=str(program))
    made = given(wish, 2, {}, absent={"gone"})
    assert (made.ranks, made.hosts) == (2, ["localhost", "127.0.0.1"])
    made = given(wish, None, {}, least=2, absent={"gone", "localhost"})
    assert (made.ranks, made.hosts) == (2, ["127.0.0.1"])
    assert made.reason == f"2 ranks on 127.0.0.1, started by {program}"
    with pytest.raises(LaunchError, match="gone: no answer"):
        given(wish, None, {}, absent={"gone"})


def hello(environ: dict[str, str] | None = None, **machine: object) -> dict[str, object]:
    here = os.getcwd()
    usual = {
        "cores": 8,
        "processors": 8,
        "gpus": 0,
        "visible": None,
        "folder": [here, os.stat(here).st_ino],
        "missing": None,
    }
    return {"host": "gpu02", "machine": {**usual, **machine}, "environ": environ or {}}


@pytest.mark.parametrize(
    ("machine", "info", "device", "threads"),
    [
        ({}, RankInfo(3, 4, 1, 2, "hydra"), None, 4),
        ({}, RankInfo(3, 4, None, None, "hydra"), None, 8),
        ({"gpus": 2}, RankInfo(3, 4, 1, 2, "hydra"), "1", 4),
        ({"gpus": 4, "visible": "GPU-a, GPU-b"}, RankInfo(3, 4, 1, 2, "hydra"), "GPU-b", 4),
        ({"gpus": 4, "visible": ""}, RankInfo(3, 4, 1, 2, "hydra"), None, 4),
        ({"gpus": 4, "cores": 1}, RankInfo(1, 2, 0, 1, "hydra"), None, 1),
    ],
    ids=["cpu", "untold", "by number", "by name", "hidden", "alone"],
)
def test_what_a_rank_gets(machine: dict[str, object], info: RankInfo, device: str | None, threads: int) -> None:
    place = Abroad(["gpu01", "gpu02"]).place(info, hello(**machine))
    assert (place.gpu and place.gpu.device, place.cores, place.threads) == (device, (), threads)


def test_fewer_gpus_than_ranks() -> None:
    info = RankInfo(5, 8, 2, 4, "slurm")
    with pytest.raises(LaunchError, match=r"4 ranks on gpu02, but 1 GPU \(0\)\. Put fewer ranks there"):
        Abroad(["gpu02"]).place(info, hello(gpus=1))
    assert Abroad(["gpu02"], all_gpus=True).place(info, hello(gpus=1)) == Place(None, (), 2)
    assert Abroad(["gpu02"], is_bound=True).place(info, hello(gpus=4, visible="0")) == Place(None, (), 2)


def test_slurm_says_which_cores_a_rank_has() -> None:
    info, environ = RankInfo(5, 8, 2, 4, "slurm"), {"SLURM_CPUS_PER_TASK": "3"}
    assert Abroad(["gpu02"], is_bound=True).place(info, hello(environ)).threads == 3
    assert Abroad(["gpu02"]).place(info, hello(environ)).threads == 2  # started by mpiexec, in some task of Slurm


def test_a_script_and_a_folder_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    abroad, info = Abroad(["gpu02"]), RankInfo(5, 8, 2, 4, "hydra")
    with pytest.raises(
        LaunchError, match=r"train\.py does not exist on gpu02, where rank 5 is to run \(looked in /x\)"
    ):
        abroad.place(info, hello(missing="train.py", folder=["/x", 1]))
    for _ in range(2):
        abroad.place(info, hello(folder=[os.getcwd(), 1]))
    assert capsys.readouterr().err.count("gpu02 works in") == 1
