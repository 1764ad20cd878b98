"""Ranks on several hosts: where the launcher waits for them, and what each of them gets."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distrain.env import RankInfo
from distrain.errors import LaunchError
from distrain_launch import plan, srun
from distrain_launch.door import Door, NetworkDoor
from distrain_launch.hardware import device_names
from distrain_launch.plan import Place


@dataclass(slots=True)
class Abroad:
    """The hosts of a job, as their keepers describe them.

    Attributes:
        hosts: their names.
        all_gpus: every rank sees every GPU of its host.
        is_bound: they are a step of Slurm, which may have given each rank its cores and GPUs already.
    """

    hosts: Sequence[str]
    all_gpus: bool = False
    is_bound: bool = False
    _apart: set[str] = field(default_factory=set)  # hosts with another working directory

    def door(self, ranks: int) -> Door:
        """Where the keepers are waited for."""
        return NetworkDoor(ranks, self.hosts)

    def place(self, info: RankInfo, hello: Mapping[str, Any]) -> Place:
        """What a rank gets.

        Args:
            info: which it is.
            hello: what its keeper says: `host`, `environ`, and `machine` as `distrain_launch.survey` describes it.

        Raises:
            LaunchError: it cannot run there.
        """
        host, machine = hello["host"], hello["machine"]
        if machine["missing"] is not None:
            raise LaunchError(
                f"{machine['missing']} does not exist on {host}, where rank {info.rank} is to run (looked in "
                f"{machine['folder'][0]}). Put it into a folder that all hosts share."
            )
        self._compare(host, *machine["folder"])
        cores, own = machine["cores"], None
        if self.is_bound:
            cores, own = srun.cores(cores, machine["processors"], hello["environ"])
        room = plan.Room(host, cores, _gpus(machine), self.is_bound, own)
        return plan.place_in(room, info.intra_rank, info.intra_size, self.all_gpus)

    def _compare(self, host: str, folder: str, inode: int) -> None:
        """Says once if a host has another working directory than the launcher."""
        own = os.getcwd()
        if host not in self._apart and (folder, inode) != (own, os.stat(own).st_ino):
            self._apart.add(host)
            print(
                f"distrain: {host} works in {folder}, which is not the {own} of this machine. A relative output folder "
                "is then another one on each host; start the job in a folder that all hosts share.",
                file=sys.stderr,
            )


def _gpus(machine: Mapping[str, Any]) -> tuple[str, ...]:
    """The GPUs of a host as CUDA names them."""
    visible = machine["visible"]
    if visible is None:
        return tuple(map(str, range(machine["gpus"])))
    return device_names(visible)
