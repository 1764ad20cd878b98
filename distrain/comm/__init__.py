"""Communicators: the ranks of the job, and what they do together."""

from __future__ import annotations

from distrain.comm.communicator import Communicator as Communicator
from distrain.comm.communicator import Reduction as Reduction
from distrain.comm.local import LocalCommunicator as LocalCommunicator
from distrain.comm.mpi import MpiCommunicator as MpiCommunicator
from distrain.comm.topology import Position as Position
from distrain.comm.topology import core_share as core_share
from distrain.comm.topology import position as position
from distrain.comm.world import cores as cores
from distrain.comm.world import local as local
from distrain.comm.world import world as world

__all__ = [
    "Communicator",
    "LocalCommunicator",
    "MpiCommunicator",
    "Position",
    "Reduction",
    "core_share",
    "cores",
    "local",
    "position",
    "world",
]
