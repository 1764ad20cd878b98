"""The dry run: whether a training would get through, and what its parts cost, before hours are spent on it.

`distrain run --dry-run`, or the variable DISTRAIN_DRY_RUN=1, makes `Trainer.run` take one step, call each extension
once, save the trainer and read it back, print a summary and end the script. All is written to a temporary directory.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.serializers import load_npz
from distrain.training.extensions.snapshot import snapshot

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

VARIABLE = "DISTRAIN_DRY_RUN"
_SNAPSHOT = "snapshot of the dry run"


def is_on(comm: Communicator) -> bool:
    """Whether rank 0 was told to make a dry run; a collective call.

    Raises:
        ArgumentError: the variable says neither yes nor no.
    """
    text = os.environ.get(VARIABLE, "")
    if text not in ("", "0", "1"):
        raise ArgumentError(f"{VARIABLE} must be 0 or 1, not {text!r}")
    return bool(comm.bcast_obj(text == "1")) if comm.size > 1 else text == "1"


class Aside:
    """A `with` block in which `trainer.out` is a temporary directory; made by `aside`."""

    def __init__(self, trainer: Trainer, directory: tempfile.TemporaryDirectory[str] | None, path: str) -> None:
        self._trainer, self._directory = trainer, directory
        self._out, trainer.out = trainer.out, path

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._trainer.out = self._out
        if self._directory is not None:
            self._directory.cleanup()


def aside(trainer: Trainer) -> Aside:
    """Gives the trainer a temporary directory: in `out` if there is one, else where `out` would be made.

    A collective call.

    Raises:
        ArgumentError: nothing can be written there; on all ranks.
    """
    comm, directory, problem = trainer.comm, None, None
    if comm.rank == 0:
        folder = os.path.abspath(trainer.out)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        try:
            directory = tempfile.TemporaryDirectory(prefix=".dry-run-", dir=folder, ignore_cleanup_errors=True)
        except OSError as error:
            problem = error.strerror or str(error)
    path = "" if directory is None else directory.name
    if comm.size > 1:
        path, problem = comm.bcast_obj((path, problem))
    if problem is not None:
        raise ArgumentError(
            f"the output directory {os.path.abspath(trainer.out)!r} cannot be written to: {problem}; give Trainer "
            "another out=…"
        )
    return Aside(trainer, directory, path)


class Figures:
    """What a dry run has measured on this rank."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.snapshot_nbytes = 0

    def time(self, name: str, function: Callable[..., Any], *args: Any) -> None:
        """Calls a function and notes the seconds that it takes."""
        start = time.perf_counter()
        function(*args)
        self.seconds[name] = time.perf_counter() - start

    def save_and_load(self, trainer: Trainer) -> None:
        """Saves the trainer, and reads the file on rank 0; a collective call."""
        self.time("a save", snapshot(filename=_SNAPSHOT), trainer)
        if trainer.comm.rank == 0:
            path = os.path.join(trainer.out, _SNAPSHOT)
            self.snapshot_nbytes = os.path.getsize(path)
            self.time("reading it", load_npz, path, trainer)

    def summary(self, comm: Communicator, out: str) -> str:
        """One line: the longest time of each part on any rank, and the highest memory; a collective call."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        everybody = comm.allgather_obj((self.seconds, peak)) if comm.size > 1 else [(self.seconds, peak)]
        longest: dict[str, float] = {}
        for seconds, _ in everybody:
            for name, value in seconds.items():
                longest[name] = max(value, longest.get(name, 0.0))
        times = ", ".join(f"{name} {value:.3g} s" for name, value in longest.items())
        ranks = "1 rank" if comm.size == 1 else f"{comm.size} ranks"
        return (
            f"dry run on {ranks} is complete: {times}; the snapshot has {self.snapshot_nbytes / 1e6:.3g} MB; at most "
            f"{max(peak for _, peak in everybody) / 1e6:.0f} MB of host memory a rank. Nothing was written to {out!r}."
        )
