"""Where the ranks sit: pure functions of what every rank says about its host."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """Place of a rank in the machine.

    Attributes:
        intra_rank: number of the rank among those of its node.
        intra_size: ranks on the node.
        inter_rank: number of the node, in the order of the lowest rank on it.
        inter_size: nodes of the job.
    """

    intra_rank: int
    intra_size: int
    inter_rank: int
    inter_size: int


def position(rank: int, hosts: Sequence[str]) -> Position:
    """Place of a rank, from the host names of all ranks in the order of the ranks."""
    nodes = list(dict.fromkeys(hosts))
    host = hosts[rank]
    return Position(
        intra_rank=hosts[:rank].count(host),
        intra_size=hosts.count(host),
        inter_rank=nodes.index(host),
        inter_size=len(nodes),
    )


def core_share(rank: int, hosts: Sequence[str], cores: Sequence[AbstractSet[int]]) -> int:
    """Cores for the threads of a rank, at least 1.

    A core that k ranks of a node may use counts 1/k, so that the answer is right whether the launcher binds ranks to
    cores of their own or leaves all cores to all of them.

    Args:
        rank: the rank that asks.
        hosts: host names of all ranks.
        cores: for each rank the cores it may run on, by number within its host.
    """
    mates = [cores[other] for other in range(len(hosts)) if hosts[other] == hosts[rank]]
    share = sum(1 / sum(core in mate for mate in mates) for core in cores[rank])
    return max(1, int(share + 1e-9))
