"""What a sum over ranks costs: the α–β model, its numbers from measurements, and step times from its numbers. Pure.

A message of n bytes takes α + n β seconds. The costs of the algorithms for p ranks follow from it:

- doubling: ⌈lg p⌉ exchanges of the whole array, right for short ones;
- tree: a binomial tree to one rank and back, 2 ⌈lg p⌉ messages of the whole array, one after the other;
- ring: 2 (p - 1) messages of n / p bytes, which moves the fewest bytes;
- hierarchical: a ring's first half inside the node, then halving and doubling between nodes, each rank of a node with
  its part of the array, then the ring's second half inside.

The additions are not counted apart: they are in β.

References:
    R. Hockney, The communication challenge for MPP: Intel Paragon and Meiko CS-2, Parallel Computing 20 (1994):
    the model. R. Thakur, R. Rabenseifner, W. Gropp, Optimization of collective communication operations in MPICH,
    IJHPCA 19 (2005): the costs for one level. Those for two are put together here from the same terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distrain.errors import ArgumentError


@dataclass(frozen=True)
class Link:
    """How one rank reaches another.

    Attributes:
        alpha_s: seconds a message takes whatever its length.
        beta_s: seconds a byte, its addition included.
    """

    alpha_s: float
    beta_s: float

    def seconds(self, nbytes: float) -> float:
        """What a message of so many bytes takes."""
        return self.alpha_s + nbytes * self.beta_s


@dataclass(frozen=True)
class Fit:
    """A straight line through measured times.

    Attributes:
        latency_s: seconds at no bytes.
        byte_s: seconds a byte.
        error: the largest relative error, |line - measured| / measured.
        worst: bytes of the measurement with that error.
    """

    latency_s: float
    byte_s: float
    error: float
    worst: int

    def seconds(self, nbytes: float) -> float:
        """The line at so many bytes."""
        return self.latency_s + nbytes * self.byte_s


@dataclass(frozen=True)
class Cluster:
    """Nodes of equal size. Neighbours in the order of the ranks sit on one node.

    Attributes:
        within: between two ranks of a node.
        between: of a node to the others; its ranks share it.
        ranks_per_node: 1 or more.
    """

    within: Link
    between: Link
    ranks_per_node: int

    def levels(self, ranks: int) -> tuple[int, int]:
        """Ranks on a node, and nodes."""
        here = min(ranks, self.ranks_per_node)
        return here, math.ceil(ranks / here)


def fit(sizes: Sequence[int], seconds: Sequence[float]) -> Fit:
    """The line latency + bytes / bandwidth that fits best, neither part negative.

    Least squares of the relative errors: times of 10 µs and of 10 ms count alike. Without that the largest array alone
    would decide.

    Args:
        sizes: bytes; two different ones at least.
        seconds: measured, more than 0.

    Raises:
        ArgumentError: fewer than two different sizes, or a time that is not more than 0.
    """
    if len(set(sizes)) < 2:
        raise ArgumentError(f"a line needs two different sizes at least, not {list(sizes)}")
    if not all(0 < t < math.inf for t in seconds):
        raise ArgumentError(f"measured times must be more than 0 s, not {list(seconds)}")
    pairs = [(1 / t, n / t) for n, t in zip(sizes, seconds, strict=True)]  # wanted: latency x + byte y = 1 for each
    xx, xy, yy = (math.fsum(p[i] * p[j] for p in pairs) for i, j in ((0, 0), (0, 1), (1, 1)))
    x, y = (math.fsum(p[i] for p in pairs) for i in (0, 1))
    determinant = xx * yy - xy * xy
    lines = [((x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant), (0.0, y / yy), (x / xx, 0.0)]
    allowed = [line for line in lines if min(line) >= 0]  # with a negative part the best is one of the last two
    latency, byte = min(allowed, key=lambda line: math.fsum((line[0] * a + line[1] * b - 1) ** 2 for a, b in pairs))
    errors = [abs(latency * a + byte * b - 1) for a, b in pairs]
    return Fit(latency, byte, max(errors), sizes[errors.index(max(errors))])


def link_of(line: Fit, ranks: int) -> Link:
    """α and β from the line through sums over so many ranks.

    It takes MPI to do its best: ⌈lg p⌉ messages one after the other for a short array, 2 (p - 1) / p of the bytes
    through each rank for a long one. On two ranks both factors are 1.
    """
    return Link(line.latency_s / _lg(ranks), line.byte_s * ranks / (2 * (ranks - 1)))


def bus_bandwidth(nbytes: int, seconds: float, ranks: int) -> float:
    """Bytes a second that each rank must at least have sent, and received: 2 (p - 1) / p of the array."""
    return 2 * (ranks - 1) / ranks * nbytes / seconds


def doubling(nbytes: float, ranks: int, cluster: Cluster) -> float:
    """Seconds by recursive doubling. All ranks of a node send at once, so they get their share of its link."""
    here, nodes = cluster.levels(ranks)
    return _lg(here) * cluster.within.seconds(nbytes) + _lg(nodes) * cluster.between.seconds(here * nbytes)


def tree(nbytes: float, ranks: int, cluster: Cluster) -> float:
    """Seconds by a binomial tree, up and down again. One rank of a node speaks with other nodes."""
    here, nodes = cluster.levels(ranks)
    return 2 * (_lg(here) * cluster.within.seconds(nbytes) + _lg(nodes) * cluster.between.seconds(nbytes))


def ring(nbytes: float, ranks: int, cluster: Cluster) -> float:
    """Seconds in one ring through all ranks. A step takes as long as its slowest message."""
    here, nodes = cluster.levels(ranks)
    links = [link for link, is_used in ((cluster.within, here > 1), (cluster.between, nodes > 1)) if is_used]
    return 2 * (ranks - 1) * max((link.seconds(nbytes / ranks) for link in links), default=0.0)


def hierarchical(nbytes: float, ranks: int, cluster: Cluster) -> float:
    """Seconds on two levels. On one rank a node this is Rabenseifner's algorithm."""
    here, nodes = cluster.levels(ranks)
    inside = 2 * (here - 1) * cluster.within.seconds(nbytes / here)
    return inside + 2 * _lg(nodes) * cluster.between.alpha_s + 2 * (nodes - 1) / nodes * nbytes * cluster.between.beta_s


ALGORITHMS: dict[str, Callable[[float, int, Cluster], float]] = {
    "ring": ring,
    "doubling": doubling,
    "tree": tree,
    "hierarchical": hierarchical,
}


@dataclass(frozen=True)
class Step:
    """A training step on so many ranks.

    Attributes:
        seconds: of the whole step.
        efficiency: the part of it that is not spent on the sum; 1 is best.
    """

    seconds: float
    efficiency: float


def step(step_s: float, exchange_s: float) -> Step:
    """A step that computes, then sums its gradients; each rank has the same samples as one alone.

    Args:
        step_s: seconds of a step of one rank alone.
        exchange_s: seconds of the sum.
    """
    return Step(step_s + exchange_s, step_s / (step_s + exchange_s))


def predict(nbytes: float, step_s: float, cluster: Cluster, ranks: Sequence[int]) -> list[dict[str, Step]]:
    """Steps by each of `ALGORITHMS`, for each number of ranks.

    Args:
        nbytes: of the gradients.
        step_s: seconds of a step of one rank alone.
        cluster: where the ranks are.
        ranks: numbers of ranks.
    """
    return [{name: step(step_s, cost(nbytes, p, cluster)) for name, cost in ALGORITHMS.items()} for p in ranks]


def _lg(count: int) -> int:
    """The logarithm to base 2, rounded up."""
    return (count - 1).bit_length()
