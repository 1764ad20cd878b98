from __future__ import annotations

from typing import Any

import pytest

from distrain.errors import ArgumentError
from distrain_launch.batch.description import Job, clock, seconds


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("4:00:00", 14400, "4:00:00"),
        ("00:00:01", 1, "0:00:01"),
        ("2-00:30:05", 174605, "48:30:05"),
        ("100:59:59", 363599, "100:59:59"),
    ],
)
def test_times(text: str, expected: int, shown: str) -> None:
    assert seconds(text) == expected
    assert clock(expected) == shown


@pytest.mark.parametrize(
    "text", ["4h", "4:00", "", "0:00:00", "1:60:00", "1:00:60", "-1:00:00", "1:00:00\n", "١:00:00"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"(?s)--time .*4:00:00"):
        seconds(text)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"nodes": 0}, "--nodes 0: expected a number from 1"),
        ({"nodes": 10**9}, "--nodes 1000000000"),
        ({"ranks_per_node": 0}, "--ranks-per-node 0"),
        ({"gpus_per_node": -1}, "--gpus-per-node -1: expected a number from 0"),
        ({"requeue_s": 0}, "--requeue 0: expected seconds from 1"),
        ({"requeue_s": 60, "time_s": 60}, "--requeue 60: .* fewer than the time limit"),
        ({"cores_per_rank": 0}, "--cores-per-rank 0"),
        ({"ranks_per_node": 4, "gpus_per_node": 2}, "--ranks-per-node 4 is more than --gpus-per-node 2.*--all-gpus"),
        ({"name": ""}, "--name ''"),
        ({"name": "1st"}, "--name '1st'"),
        ({"name": "a b"}, "--name 'a b'"),
        ({"name": "a\n#SBATCH --uid=0"}, "--name"),
        ({"name": "$(id)"}, "--name"),
        ({"name": "a" * 64}, "63 at most"),
        ({"account": "a b"}, "--account 'a b'"),
        ({"account": "--x"}, "--account '--x'"),
        ({"queue": "q\n"}, "--queue"),
        ({"mpi": "pmi2;id"}, "--mpi"),
        ({"parallel_environment": "mpi 9"}, "--pe 'mpi 9'"),
        ({"environment": (("A B", ""),)}, "--env 'A B'"),
        ({"environment": (("", "x"),)}, "--env ''"),
        ({"environment": (("A", "\udcff"),)}, "--env .*no text"),
        ({"args": ("a\0b",)}, "argument .*no text"),
        ({"script": "-c"}, "script '-c'.*dash"),
        ({"script": ""}, "script ''"),
        ({"container": "--bind=/"}, "--container"),
        ({"python": "/a=b/python"}, "--python .*equals sign"),
        ({"mpiexec": "-x"}, "--mpiexec '-x'"),
        ({"modules": ("",)}, "--module ''"),
        ({"setup": ("true\nfalse",)}, "--setup .*one line"),
        ({"directives": ("--qos=x\nid",)}, "--directive .*one line"),
    ],
)
def test_jobs_that_cannot_be(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Job(**{"script": "train.py", **attributes})


def test_what_is_worked_out() -> None:
    job = Job(script="train.py", nodes=2, ranks_per_node=4, cores_per_rank=3, gpus_per_node=4)
    assert (job.ranks, job.cores_per_node, job.threads, job.shares_gpus) == (8, 12, 3, True)
    assert job.summary() == "8 ranks on 2 nodes, 4 on each"
    assert Job(script="train.py").summary() == "1 rank on 1 node"
    assert Job(script="train.py", cores_per_rank=3, environment=(("MKL_NUM_THREADS", "1"),)).threads is None
    assert Job(script="train.py", environment=(("PYTHONUNBUFFERED", ""),)).variables()["PYTHONUNBUFFERED"] == ""
    assert not Job(script="train.py", ranks_per_node=4, gpus_per_node=2, all_gpus=True).shares_gpus
