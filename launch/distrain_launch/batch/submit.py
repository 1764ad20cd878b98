"""`distrain submit`: writes a batch script, and shows it or hands it to the batch system."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distrain.errors import ArgumentError, LaunchError
from distrain_launch.batch import flux, kubernetes, lsf, pbs, sge, slurm
from distrain_launch.batch.description import Job, seconds

_SUBMIT_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class System:
    """A batch system.

    Attributes:
        title: how people call it.
        script: writes a job down.
        command: takes the file as its last argument.
        reads: the command reads the file as its standard input instead.
        suffix: of the file.
    """

    title: str
    script: Callable[[Job], str]
    command: Sequence[str]
    reads: bool = False
    suffix: str = "sh"


SYSTEMS = {
    "slurm": System("Slurm", slurm.script, ["sbatch"]),
    "pbs": System("PBS Professional, OpenPBS", pbs.script, ["qsub"]),
    "lsf": System("LSF", lsf.script, ["bsub"], reads=True),
    "sge": System("Grid Engine", sge.script, ["qsub"]),
    "flux": System("Flux", flux.script, ["flux", "batch"]),
    "kubernetes": System("Kubernetes", kubernetes.script, ["kubectl", "apply", "-f"], suffix="json"),
}


def add_to(commands: Any) -> None:
    """Enters the subcommand."""
    parser = commands.add_parser("submit", help="write a batch script, and show or submit it")
    chosen = parser.add_mutually_exclusive_group(required=True)
    for name, system in SYSTEMS.items():
        chosen.add_argument(
            f"--{name}", dest="system", action="store_const", const=name, help=f"the batch system is {system.title}"
        )
    _add_size(parser)
    _add_place(parser)
    _add_software(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the script and submit nothing")
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: NAME.SYSTEM.sh)")
    parser.add_argument("script", help="the training script")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="arguments of the script")
    parser.set_defaults(start=_start)


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="number of nodes (default: 1)")
    parser.add_argument(
        "--ranks-per-node", type=int, metavar="R", help="ranks on each node (default: one for each GPU, else 1)"
    )
    parser.add_argument("--gpus-per-node", type=int, default=0, metavar="G", help="GPUs on each node (default: none)")
    parser.add_argument("--all-gpus", action="store_true", help="every rank sees every GPU (default: one of its own)")
    parser.add_argument("--cores-per-rank", type=int, metavar="C", help="cores, and threads of BLAS, of each rank")
    parser.add_argument("--time", metavar="H:MM:SS", help="time limit, as 4:00:00 or 2-00:00:00")
    parser.add_argument(
        "--requeue",
        type=int,
        metavar="S",
        help="S seconds before the limit, or when the job is to make room, the training saves itself and the job goes "
        "back into the queue to continue (Slurm, LSF, Grid Engine, Kubernetes)",
    )


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="A", help="account or project that pays")
    parser.add_argument("--queue", "--partition", metavar="Q", help="queue or partition")
    parser.add_argument("--name", metavar="J", help="name of the job (default: of the script)")
    parser.add_argument("--pe", metavar="P", help="Grid Engine's parallel environment (default: mpi)")
    parser.add_argument(
        "--directive",
        action="append",
        default=[],
        metavar="TEXT",
        help="an option of the system, as --directive=--qos=x",
    )


def _add_software(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--module", action="append", default=[], metavar="M", help="load a module of the site")
    parser.add_argument("--setup", action="append", default=[], metavar="CMD", help="a shell command to run before")
    parser.add_argument("--container", metavar="IMAGE", help="image in which the ranks run (Apptainer; Kubernetes)")
    parser.add_argument("--env", action="append", default=[], metavar="K=V", help="a variable of the ranks")
    parser.add_argument("--python", metavar="PATH", help="the interpreter (default: this one; python3 of an image)")
    parser.add_argument(
        "--mpiexec", metavar="PATH", help="the mpiexec to use (default: of the interpreter, or the site)"
    )
    parser.add_argument("--mpi", metavar="KIND", help="start with srun --mpi=KIND; Flux: pmi; Kubernetes: MPI's name")


def _start(options: argparse.Namespace) -> int:
    system = SYSTEMS[options.system]
    job = _job(options)
    text = system.script(job)
    if options.dry_run:
        print(text, end="")
        if options.output is None:
            return 0
    path = _write(Path(options.output or f"{job.name}.{options.system}.{system.suffix}"), text)
    if not options.dry_run:
        _submit(system, path)
    return 0


def _job(options: argparse.Namespace) -> Job:
    in_image = options.container is not None or options.system == "kubernetes"
    _check_script(options.script, in_image)
    if options.mpiexec is not None and (options.system == "flux" or (options.system == "slurm" and options.mpi)):
        starter = "flux run" if options.system == "flux" else "srun --mpi"
        raise ArgumentError(f"--mpiexec {options.mpiexec}: {starter} starts the ranks here. Leave one of them out.")
    python = options.python or ("python3" if in_image else sys.executable)
    return Job(
        script=options.script,
        args=tuple(options.args),
        directory=os.getcwd(),
        python=python,
        name=_name_of(options.script) if options.name is None else options.name,
        nodes=options.nodes,
        ranks_per_node=max(1, options.gpus_per_node) if options.ranks_per_node is None else options.ranks_per_node,
        gpus_per_node=options.gpus_per_node,
        all_gpus=options.all_gpus,
        cores_per_rank=options.cores_per_rank,
        time_s=None if options.time is None else seconds(options.time),
        requeue_s=options.requeue,
        account=options.account,
        queue=options.queue,
        modules=tuple(options.module),
        setup=tuple(options.setup),
        container=options.container,
        environment=tuple(_variable(text) for text in options.env),
        mpi=options.mpi,
        mpiexec=options.mpiexec or _mpiexec_beside(python),
        parallel_environment=options.pe,
        directives=tuple(options.directive),
    )


def _check_script(script: str, in_image: bool) -> None:
    path = Path(script)
    if not in_image and not path.is_file():
        kind = "is not a file" if path.exists() else "does not exist"
        raise LaunchError(f"{script} {kind} (looked in {os.getcwd()}).")


def _name_of(script: str) -> str:
    """A name that every system takes."""
    name = re.sub(r"[^a-z0-9]+", "-", Path(script).stem.lower())[:40].strip("-")
    return name if re.match(r"[a-z]", name) else f"job-{name}".strip("-")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentError(f"--env {text}: expected NAME=value.")
    return name, value


def _mpiexec_beside(python: str) -> str:
    """The mpiexec of the interpreter's environment, which belongs to its mpi4py; else the first that the job finds."""
    beside = Path(python).parent / "mpiexec"
    return str(beside) if beside.is_absolute() and os.access(beside, os.X_OK) else "mpiexec"


def _write(path: Path, text: str) -> Path:
    """Writes the script; replaces only what was written by this command.

    Raises:
        LaunchError: the file is another's, or cannot be written.
    """
    try:
        if path.exists() and b"Written by `distrain submit" not in path.read_bytes()[:4096]:
            raise LaunchError(f"{path} exists and is not of distrain submit. Name another file with --output.")
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise LaunchError(f"{path} cannot be written: {error}. Name another file with --output.") from error
    print(f"distrain: wrote {path}", file=sys.stderr)
    return path


def _submit(system: System, path: Path) -> None:
    """Hands the script over, and prints what the system says of it.

    Raises:
        LaunchError: its command is missing, or refuses. The script stays.
    """
    program = shutil.which(system.command[0])
    shown = " ".join([*system.command, *["<"] * system.reads, str(path)])
    if program is None:
        raise LaunchError(
            f"{system.command[0]} of {system.title} is not on the PATH. The script is written; submit it where there "
            f"is one: {shown}"
        )
    command = [program, *system.command[1:]]
    text = path.read_bytes() if system.reads else None
    try:
        done = subprocess.run(
            command if system.reads else [*command, str(path.absolute())],
            input=text,
            stdin=None if system.reads else subprocess.DEVNULL,
            capture_output=True,
            timeout=_SUBMIT_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{shown} did not run: {error}. The script stays.") from error
    said = done.stderr.decode(errors="replace").strip()
    if done.stdout:
        print(done.stdout.decode(errors="replace").strip(), flush=True)
    if done.returncode != 0:
        raise LaunchError(f"{shown} ended with code {done.returncode}: {said or 'no message'}. The script stays.")
    if said:
        print(said, file=sys.stderr)
