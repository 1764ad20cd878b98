"""The scripts, as text and at work.

After a wanted change of what is written, look at the difference that the test shows and renew the stored files with

    DISTRAIN_RENEW_GOLDEN=1 python -m pytest tests/launch/batch/test_scripts.py
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distrain.errors import ArgumentError
from distrain_launch.batch import flux, kubernetes, lsf, pbs, sge, slurm
from distrain_launch.batch.description import Job

GOLDEN = Path(__file__).parents[1] / "golden"
LIMIT_S = 60.0
SYSTEMS: dict[str, Callable[[Job], str]] = {
    "slurm": slurm.script,
    "pbs": pbs.script,
    "lsf": lsf.script,
    "sge": sge.script,
    "flux": flux.script,
    "kubernetes": kubernetes.script,
}
SHELLS = [name for name in SYSTEMS if name != "kubernetes"]
DIRECTIVE = {  # where a system looks for its options: in the worst case in every line
    "slurm": r"^#SBATCH.*",
    "pbs": r"^#PBS.*",
    "lsf": r"^#BSUB.*",
    "sge": r"^#\$.*",
    "flux": r"^[^\w\n]*(?:flux|FLUX):.*",
}
SMALL = Job(script="train.py", directory="/home/me/work", python="/home/me/venv/bin/python")
FULL = replace(
    SMALL,
    args=("--epoch", "20", "--out", "it's a result"),
    name="digits",
    nodes=2,
    ranks_per_node=4,
    gpus_per_node=4,
    cores_per_rank=8,
    time_s=4 * 3600 + 30,
    account="ab12@gpu",
    queue="long",
    environment=(("DATA", "/scratch/my data"),),
    modules=("gcc/13", "openmpi/5.0"),
    setup=("ulimit -c 0",),
)
IN_IMAGE = {"container": "registry.example/train:1", "python": "python3", "modules": (), "setup": (), "account": None}
JOBS = {
    **{f"{system}.sh": (system, FULL) for system in SHELLS if system != "sge"},
    "sge.sh": ("sge", replace(FULL, directives=("-l gpu=1",), parallel_environment="orte_8")),
    **{f"{system}-small.sh": (system, SMALL) for system in SHELLS},
    "slurm-srun.sh": ("slurm", replace(FULL, mpi="pmix", directives=("--qos=high",))),
    "slurm-requeue.sh": ("slurm", replace(FULL, requeue_s=300)),
    "slurm-requeue-srun.sh": ("slurm", replace(SMALL, ranks_per_node=2, mpi="pmi2", requeue_s=60)),
    "lsf-requeue.sh": ("lsf", replace(FULL, requeue_s=300)),
    "sge-requeue.sh": ("sge", replace(FULL, directives=("-l gpu=1",), requeue_s=300)),
    "kubernetes-requeue.json": ("kubernetes", replace(FULL, **IN_IMAGE, nodes=1, requeue_s=120)),
    "slurm-container.sh": ("slurm", replace(FULL, container="train it.sif", python="python3", all_gpus=True)),
    "kubernetes-job.json": ("kubernetes", replace(FULL, **IN_IMAGE, nodes=1)),
    "kubernetes-mpijob.json": ("kubernetes", replace(FULL, **IN_IMAGE, mpi="mpich")),
    "kubernetes-small.json": ("kubernetes", replace(SMALL, container="train:1", python="python3")),
}
HOSTILE = [
    "it's",
    'say "hi"',
    "$(touch owned)`touch owned`",
    "$HOME ${PATH} $$ $",
    "a\n#SBATCH --x\n#PBS -x\n#BSUB -x\n#$ -x\n# flux: -x",
    "flux: -N 100",
    "\r\u2028flux: --x\t\x1b\\",
    "; touch owned; #",
    "",
    "*",
    "~",
    "-n",
    "A=b",
    "!x",
    "grüße 日本",
    "\\",
    "'",
]


def written(name: str) -> str:
    system, job = JOBS[name]
    return SYSTEMS[system](job)


@pytest.mark.parametrize("name", JOBS)
def test_the_text_is_the_stored_one(name: str) -> None:
    path, new = GOLDEN / name, written(name)
    if os.environ.get("DISTRAIN_RENEW_GOLDEN"):
        path.write_text(new)
    old = path.read_text() if path.exists() else ""
    difference = "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "stored", "written"))
    assert old == new, f"{name} differs; how to renew it stands at the top of {Path(__file__).name}\n{difference}"


def test_no_stored_text_is_forgotten() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(JOBS)


@pytest.mark.parametrize("name", [name for name in JOBS if name.endswith(".sh")])
def test_bash_finds_no_fault(name: str) -> None:
    assert faults(["bash", "-n"], name) == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", [name for name in JOBS if name.endswith(".sh")])
def test_shellcheck_finds_no_fault(name: str) -> None:
    assert faults(["shellcheck", "-"], name) == ""


def faults(check: list[str], name: str) -> str:
    done = subprocess.run(check, input=written(name), capture_output=True, text=True, timeout=LIMIT_S)
    return done.stdout + done.stderr


def hostile_job(system: str, folder: Path) -> Job:
    job = Job(
        script="a $(touch owned) 'script'.py",
        args=tuple(HOSTILE),
        directory=str(folder),
        python="/a b/$(touch owned)/python",
        ranks_per_node=2,
        cores_per_rank=3,
        environment=tuple((f"V{number}", text) for number, text in enumerate(HOSTILE)),
    )
    if system == "kubernetes":
        return replace(job, container="x:1")
    return replace(job, container="an 'image' $(touch owned)", modules=("$(touch owned) it's",))


def expected_program(job: Job) -> list[str]:
    variables = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **dict(job.environment)}
    blas = ("OMP", "OPENBLAS", "GOTO", "MKL", "BLIS")
    variables |= dict.fromkeys([*(f"{name}_NUM_THREADS" for name in blas), "VECLIB_MAXIMUM_THREADS"], "3")
    return ["env", *(f"{name}={value}" for name, value in variables.items())]


def stand_in(folder: Path, name: str) -> None:
    """A program that writes its arguments down, each with a zero byte behind it."""
    program(folder, name, f"printf '%s\\0' \"$@\" > said-{name}")


def program(folder: Path, name: str, body: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(text: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The script as a batch system runs it: a file, in a clean environment."""
    path = folder / "job.sh"
    path.write_text(text)
    return subprocess.run(
        ["bash", str(path)],
        cwd=folder,
        env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": "/nowhere", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def said(folder: Path, name: str) -> list[str]:
    return (folder / f"said-{name}").read_bytes().decode().removesuffix("\0").split("\0")


STARTED = {  # by what, with which options
    "slurm": ("srun", ["--mpi=pmi2", "--kill-on-bad-exit=1", "--cpus-per-task=3"]),
    "pbs": ("mpiexec", ["-n", "2"]),
    "lsf": ("mpiexec", ["-n", "2"]),
    "sge": ("mpiexec", ["-host", "node1:2", "-n", "2"]),
    "flux": ("flux", ["run", "--nodes=1", "--ntasks=2", "--cores-per-task=3"]),
}


@pytest.mark.parametrize("system", SHELLS)
def test_hostile_texts_arrive_as_they_are(system: str, tmp_path: Path) -> None:
    folder = tmp_path / "it's $(touch owned)\n#$ -q x"
    folder.mkdir()
    job = hostile_job(system, folder)
    if system == "slurm":
        job = replace(job, mpi="pmi2")
    starter, options = STARTED[system]
    stand_in(folder, starter)
    stand_in(folder, "module")
    (folder / "hosts").write_text("node1 6 all.q@node1 UNDEFINED\n")
    done = run(SYSTEMS[system](job), folder, PE_HOSTFILE="hosts")
    assert done.returncode == 0, done.stderr
    image = ["apptainer", "exec", str(job.container)]
    assert said(folder, starter) == [*options, *expected_program(job), *image, job.python, job.script, *job.args]
    assert said(folder, "module") == ["load", *job.modules]
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize("system", SHELLS)
def test_no_text_becomes_a_directive(system: str, tmp_path: Path) -> None:
    harmless = replace(SMALL, ranks_per_node=2, cores_per_rank=3)
    hostile = replace(hostile_job(system, tmp_path), directory="x\n#$ -x\nflux: -x")
    found = [
        re.findall(DIRECTIVE[system], SYSTEMS[system](job), re.MULTILINE)
        for job in (harmless, replace(hostile, name=harmless.name))
    ]
    assert found[0] == found[1]
    assert len(found[0]) > 2


def test_hostile_texts_arrive_through_kubernetes(tmp_path: Path) -> None:
    job = hostile_job("kubernetes", tmp_path)
    (container,) = json.loads(kubernetes.script(job))["spec"]["template"]["spec"]["containers"]
    command = [expanded(word, {"HOME": "x", "PATH": "x"}) for word in container["command"]]
    assert command == ["mpiexec", "-n", "2", *expected_program(job), job.python, job.script, *job.args]


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """What Kubernetes makes of a word: `$$` is a dollar sign, `$(NAME)` a variable if there is one."""

    def one(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environ.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, text)


def test_a_number_of_threads_that_was_chosen_stays(tmp_path: Path) -> None:
    stand_in(tmp_path, "mpiexec")
    job = replace(SMALL, directory=str(tmp_path), ranks_per_node=2, cores_per_rank=3)
    run(slurm.script(job), tmp_path)
    assert "OMP_NUM_THREADS=3" in said(tmp_path, "mpiexec")
    for name in ("OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        run(slurm.script(job), tmp_path, **{name: "1"})
        assert not [word for word in said(tmp_path, "mpiexec") if "THREADS" in word]


def test_what_fails_before_the_training_ends_the_job(tmp_path: Path) -> None:
    stand_in(tmp_path, "mpiexec")
    job = replace(SMALL, directory=str(tmp_path), ranks_per_node=2, setup=("sh -c 'exit 3'",))
    assert run(slurm.script(job), tmp_path).returncode == 3
    assert run(slurm.script(replace(job, setup=(), directory="/nowhere")), tmp_path).returncode != 0
    assert not (tmp_path / "said-mpiexec").exists()


def test_grid_engine_with_other_hosts_than_asked_for(tmp_path: Path) -> None:
    stand_in(tmp_path, "mpiexec")
    (tmp_path / "hosts").write_text("a 4 q UNDEFINED\nb 4 q UNDEFINED\n")
    job = replace(SMALL, directory=str(tmp_path), nodes=2, ranks_per_node=2, cores_per_rank=2)
    assert run(sge.script(job), tmp_path, PE_HOSTFILE="hosts").returncode == 0
    assert said(tmp_path, "mpiexec")[:4] == ["-host", "a:2,b:2", "-n", "4"]
    done = run(sge.script(replace(job, nodes=3)), tmp_path, PE_HOSTFILE="hosts")
    assert done.returncode == 2
    assert "gave 2 hosts, not 3" in done.stderr


@pytest.mark.parametrize(
    ("system", "attributes", "words"),
    [
        ("slurm", {"parallel_environment": "mpi"}, "--pe does not go with --slurm"),
        ("pbs", {"requeue_s": 60}, "--requeue does not go with --pbs: its jobs cannot put themselves back.*code 75"),
        ("flux", {"requeue_s": 60}, "--requeue does not go with --flux"),
        ("sge", {"requeue_s": 60}, "--requeue: Grid Engine must know the time limit .* Give --time"),
        ("kubernetes", {"container": "x", "nodes": 2, "requeue_s": 60}, "--requeue: an MPIJob has no words for"),
        ("pbs", {"mpi": "pmi2"}, "--mpi does not go with --pbs.*--mpiexec"),
        ("lsf", {"mpi": "pmi2"}, "--mpi does not go with --lsf"),
        ("sge", {"mpi": "pmi2"}, "--mpi does not go with --sge"),
        ("sge", {"gpus_per_node": 1}, "--directive '-l gpu=1'"),
        ("flux", {"gpus_per_node": 3, "ranks_per_node": 2}, "3 cannot be shared out evenly to --ranks-per-node 2"),
        ("kubernetes", {}, "--container"),
        ("kubernetes", {"container": "x", "account": "a"}, "--account does not go with --kubernetes"),
        ("kubernetes", {"container": "x", "modules": ("a",)}, "--module does not go"),
        ("kubernetes", {"container": "x", "setup": ("a",)}, "--setup does not go"),
        ("kubernetes", {"container": "x", "directives": ("a",)}, "--directive does not go"),
        ("kubernetes", {"container": "x", "name": "A_b"}, "--name 'A_b': Kubernetes"),
        ("kubernetes", {"container": "x", "queue": "a,b"}, "--queue 'a,b': Kubernetes"),
        ("kubernetes", {"container": "x", "mpi": "pmi2"}, "openmpi, mpich, intel"),
    ],
)
def test_what_a_system_does_not_have(system: str, attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        SYSTEMS[system](replace(SMALL, **attributes))


SHOW = """
import os, sys
from distrain import comm
world = comm.world()
names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TEXT")
shown = world.gather_obj([*(os.environ[name] for name in names), len(os.sched_getaffinity(0)), *sys.argv[1:]])
if shown:
    print(shown)
"""


@pytest.mark.mpi
def test_real_ranks(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    (tmp_path / "show it.py").write_text(SHOW)
    job = Job(
        script="show it.py",
        args=tuple(HOSTILE),
        directory=str(tmp_path),
        python=mpi_python,
        ranks_per_node=2,
        gpus_per_node=3,
        cores_per_rank=1,
        environment=(("TEXT", HOSTILE[4]), ("OMP_NUM_THREADS", "2")),
        mpiexec=str(Path(mpi_python).with_name("mpiexec")),
        directives=("-l gpu=1",),
    )
    (tmp_path / "hosts").write_text("localhost 2 q UNDEFINED\n")
    as_root = {f"{prefix}_ALLOW_RUN_AS_ROOT{end}": "1" for prefix in ("OMPI", "PRTE") for end in ("", "_CONFIRM")}
    over = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}  # a test machine may have a single core
    environ = {**as_root, **over, "CUDA_VISIBLE_DEVICES": "5,GPU-7,8", "PE_HOSTFILE": "hosts"}
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 0
    path = tmp_path / "job.sh"
    path.write_text(sge.script(job))
    shown = mpi.run(["bash", str(path)], env=environ).check().stdout.strip()
    assert shown == str([[gpu, "2", HOSTILE[4], cores, *HOSTILE] for gpu in ("5", "GPU-7")])


def stopping_job(folder: Path) -> Job:
    """A training that would take forever."""
    suite = Path(__file__).parents[2] / "training" / "stopping_suite.py"
    shutil.copy(suite, folder / "train.py")
    return Job(
        script="train.py",
        args=("result", "1000000", "none", "SIGTERM", "0"),
        directory=str(folder),
        python=sys.executable,
        ranks_per_node=2,
        mpiexec=str(Path(sys.executable).with_name("mpiexec")),
        time_s=600,
        requeue_s=60,
    )


@pytest.mark.mpi
def test_a_job_goes_back_into_the_queue_and_continues(mpi: Any, tmp_path: Path) -> None:
    stand_in(tmp_path, "scontrol")
    command = script_file(tmp_path, slurm.script(stopping_job(tmp_path)))
    stop(mpi, command, tmp_path, {"SLURM_JOB_ID": "7"})
    assert said(tmp_path, "scontrol") == ["requeue", "7"]
    first = int((tmp_path / "result" / "rank-0-0").read_text().split()[1])
    assert (tmp_path / "result" / f"snapshot_iter_{first}").exists()
    stop(mpi, command, tmp_path, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})
    assert int((tmp_path / "result" / "rank-0-1").read_text().split()[1]) > first


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("system", "number", "code"),
    [
        ("lsf", signal.SIGUSR1, 75),
        ("lsf", signal.SIGTERM, 143),
        ("sge", signal.SIGUSR1, 99),
        ("sge", signal.SIGUSR2, 75),
    ],
)
def test_the_code_that_the_system_understands(mpi: Any, tmp_path: Path, system: str, number: int, code: int) -> None:
    (tmp_path / "hosts").write_text("localhost 2 q UNDEFINED\n")
    command = script_file(tmp_path, SYSTEMS[system](stopping_job(tmp_path)))
    stop(mpi, command, tmp_path, {"JOB_ID": "7", "LSB_JOBID": "7", "PE_HOSTFILE": "hosts"}, number, code)
    stopped_at = int((tmp_path / "result" / "rank-0-0").read_text().split()[1])
    assert (tmp_path / "result" / f"snapshot_iter_{stopped_at}").exists()
    if number == signal.SIGUSR1:
        stop(mpi, command, tmp_path, {"JOB_ID": "7", "LSB_JOBID": "7", "PE_HOSTFILE": "hosts"}, number, code)
        assert int((tmp_path / "result" / "rank-0-1").read_text().split()[1]) > stopped_at


@pytest.mark.mpi
def test_a_pod_that_is_to_go_saves_its_training(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    job = stopping_job(tmp_path)
    here = str(Path(mpi_python).with_name("mpiexec"))
    text = kubernetes.script(replace(job, container="train:1", python=mpi_python, mpiexec=here))
    (container,) = json.loads(text)["spec"]["template"]["spec"]["containers"]
    env = {entry["name"]: entry.get("value", "the uid of the Job") for entry in container["env"]}
    command = [word.replace("$$", "$") for word in container["command"]]
    stop(mpi, command, tmp_path, env, signal.SIGTERM)
    first = int((tmp_path / "result" / "rank-0-0").read_text().split()[1])
    stop(mpi, command, tmp_path, env, signal.SIGTERM)
    assert int((tmp_path / "result" / "rank-0-1").read_text().split()[1]) > first


def script_file(folder: Path, text: str) -> list[str]:
    """The command line that runs a script."""
    (folder / "job.sh").write_text(text)
    return ["bash", str(folder / "job.sh")]


def stop(
    mpi: Any,
    command: list[str],
    folder: Path,
    more: Mapping[str, str],
    number: int = signal.SIGUSR1,
    code: int = 75,
) -> None:
    """Runs a job, sends its shell the signal when the training has begun, and waits for its end with the code."""
    log, mark = folder / "result" / "log", uuid.uuid4().hex
    log.unlink(missing_ok=True)
    programs = f"{folder / 'bin'}:{os.environ['PATH']}"
    env = mpi.environment(mark, {"PATH": programs, "CUDA_VISIBLE_DEVICES": "", **more})
    child = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + LIMIT_S
        while not log.exists():
            assert time.monotonic() < end
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(number)
        assert child.wait(LIMIT_S) == code
    finally:
        mpi.kill_marked(mark)
        child.wait(10)


@pytest.mark.parametrize(
    ("body", "code", "is_requeued"),
    [
        ("exit 0", 0, False),
        ("exit 3", 3, False),
        ("exit 75", 75, True),
        ("kill -9 $$", 137, False),
        ("sleep 0.3; trap : USR1; kill -USR1 $PPID; sleep 0.3; kill -9 $$", 137, True),
        ("sleep 0.3; kill -USR1 $PPID; exec sleep 20", 138, False),
    ],
)
def test_the_end_of_a_training_decides_about_the_queue(tmp_path: Path, body: str, code: int, is_requeued: bool) -> None:
    program(tmp_path, "srun", body)
    stand_in(tmp_path, "scontrol")
    job = replace(SMALL, directory=str(tmp_path), mpi="pmi2", requeue_s=60)
    assert run(slurm.script(job), tmp_path, SLURM_JOB_ID="7").returncode == code
    assert (tmp_path / "said-scontrol").exists() == is_requeued


def test_more_ranks_than_gpus_are_given(tmp_path: Path) -> None:
    job = replace(SMALL, directory=str(tmp_path), ranks_per_node=2, gpus_per_node=2, python="echo")
    program(tmp_path, "mpiexec", 'shift 2\nexec "$@"')
    done = run(slurm.script(job), tmp_path, MPI_LOCALRANKID="1", CUDA_VISIBLE_DEVICES="0")
    assert done.returncode != 0
    assert "no GPU is left for rank 1" in done.stderr
    assert run(slurm.script(job), tmp_path, MPI_LOCALRANKID="1").stdout == "train.py\n"
    done = run(slurm.script(job), tmp_path)
    assert "no number on this node is known" in done.stderr


def test_words_of_a_small_job_read_well() -> None:
    text = slurm.script(SMALL)
    assert shlex.split(text.splitlines()[-1]) == ["${program[@]}"]
    assert "mpiexec" not in text
