"""The ranks of one attempt of a job: how many, where, and what starts them.

Hosts and GPUs may vanish while a job runs, and come back. So they are looked at again before each restart: the job gets
as many ranks as it was to have, or as many as there is room for, if that is enough.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from distrain.errors import LaunchError
from distrain_launch import mpiexec, plan, reach, several
from distrain_launch.abroad import Abroad
from distrain_launch.hardware import Hardware
from distrain_launch.mpiexec import Command, Machine
from distrain_launch.plan import Place
from distrain_launch.several import Start, Wish

Starter = Callable[[Sequence[str]], Command]  # what starts one keeper a rank, from the command line of a keeper


@dataclass(frozen=True, slots=True)
class Crew:
    """The ranks of one attempt.

    Attributes:
        places: what each rank gets, in their order; where they run on several hosts only their number counts.
        command: what starts their keepers.
        abroad: the hosts, if they are not this machine alone.
        reason: a word about them; empty where there is nothing to say.
    """

    places: Sequence[Place]
    command: Starter
    abroad: Abroad | None
    reason: str = ""


class Muster(Protocol):
    """Gathers the ranks of one attempt after another."""

    def gather(self, is_again: bool) -> Crew | int:
        """The ranks of the next attempt; or the number of a signal that came meanwhile and ends the job.

        Args:
            is_again: it is not the first one, so what has been there may be missing.

        Raises:
            LaunchError: there are too few.
        """


class OnThisMachine:
    """Ranks on this machine alone.

    Args:
        ranks: how many.
        least: how many are enough if GPUs have vanished; None: no fewer.
        hardware: the machine at the beginning. If it has GPUs, there must be some for every attempt.
        all_gpus: every rank sees every GPU.
        starter: gives what starts so many keepers.
    """

    def __init__(
        self, ranks: int, least: int | None, hardware: Hardware, all_gpus: bool, starter: Callable[[int], Starter]
    ) -> None:
        self._ranks, self._least, self._hardware = ranks, least, hardware
        self._all_gpus, self._starter = all_gpus, starter

    def gather(self, is_again: bool) -> Crew | int:
        """See `Muster.gather`."""
        hardware = Hardware.here(may_lack=self._least is not None) if is_again else self._hardware
        ranks, reason = self._ranks, ""
        counts = bool(self._hardware.gpus) and self._least is not None and not self._all_gpus
        if counts and len(hardware.gpus) < ranks:
            assert self._least is not None
            ranks = len(hardware.gpus)
            there = ", ".join(gpu.label for gpu in hardware.gpus)
            reason = f"{ranks} of {self._ranks} ranks, one for each GPU that is there ({there})"
            if ranks < self._least:
                raise LaunchError(
                    f"{ranks} of {self._ranks} GPUs are there ({there or 'none'}), but --min-n {self._least} asks for "
                    "more. Look with nvidia-smi what has become of the others."
                )
        places = plan.places(hardware, ranks, self._all_gpus)
        if reason and ranks == 1:  # a rank that is alone sees what the launcher sees, and part of that is gone
            places = [replace(places[0], gpu=hardware.gpus[0])]
        return Crew(places, self._starter(ranks), None, reason)


class OnHosts:
    """Ranks on the hosts that are given, or on those of Slurm's allocation.

    Args:
        wish: what the user says about hosts.
        whole: how the ranks start if all hosts answer.
        least: how many are enough if not; None: no fewer. If it is given, hosts may be missing from the beginning.
        all_gpus: every rank sees every GPU of its host.
    """

    def __init__(self, wish: Wish, whole: Start, least: int | None, all_gpus: bool) -> None:
        self._wish, self._whole, self._least, self._all_gpus = wish, whole, least, all_gpus

    def gather(self, is_again: bool) -> Crew | int:
        """See `Muster.gather`."""
        missing: set[str] = set()
        if self._wish.is_given and (is_again or self._least is not None):
            missing, told = reach.absent(several.given_hosts(self._wish), mpiexec.find(self._wish.mpiexec))
            if told is not None:
                return told
        start = self._whole
        if missing:
            start = several.given(self._wish, start.ranks, least=self._least, absent=missing)
        reason = start.reason
        if start.ranks < self._whole.ranks:
            reason += f"; {self._whole.ranks} would be with {', '.join(sorted(missing))}, which gives no answer"
        abroad = Abroad(start.hosts, self._all_gpus, start.is_bound)
        return Crew([Place(None, (), 1)] * start.ranks, start.command, abroad, reason)


def local_starter(given: str | None) -> Callable[[int], Starter]:
    """What starts ranks on this machine; a single one needs no mpiexec.

    Args:
        given: the mpiexec that the user names; None: that of this environment.
    """

    def starter(ranks: int) -> Starter:
        if ranks == 1:
            return lambda keeper: Command(list(keeper))
        check_mpi(ranks)
        found = mpiexec.find(given)
        return lambda keeper: mpiexec.command(found, ranks, keeper, Machine.here())

    return starter


def has_mpi() -> bool:
    """Whether ranks can speak with each other at all."""
    return importlib.util.find_spec("mpi4py") is not None


def check_mpi(ranks: int) -> None:
    """Whether so many ranks can speak with each other.

    Raises:
        LaunchError: they cannot.
    """
    if not has_mpi():
        raise LaunchError(
            f"{ranks} ranks need mpi4py, which {sys.executable} does not have. Install it with an MPI, "
            "`pip install distrain[mpich]`, or for the MPI of this machine, `pip install distrain[mpi]`."
        )
