"""What `distrain bench comm` has found: the numbers, what they predict, and how they are shown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distrain.comm import cost
from distrain.comm.cost import Cluster, Fit, Link, Step
from distrain.errors import ArgumentError

RANKS = tuple(2**i for i in range(1, 13))
_POOR = 0.5  # a relative error of the line


@dataclass(frozen=True)
class Timing:
    """Median seconds of a sum of so many bytes; in each round the slowest rank counts."""

    nbytes: int
    exchange_s: float
    allreduce_s: float
    hierarchical_s: float
    raw_s: float


@dataclass(frozen=True)
class Workload:
    """A model: bytes of its gradients, and seconds of a step of one rank alone."""

    gradient_bytes: int
    step_s: float


@dataclass(frozen=True)
class Result:
    """What was measured, and what follows.

    Attributes:
        ranks: of the job.
        nodes: they are on.
        mpi: its name and version.
        kind: of the communicator; see `kinds.Kind`.
        rounds: measured for each size.
        timings: by size.
        line: through the times of the exchange.
        link: from that line.
    """

    ranks: int
    nodes: int
    mpi: str
    kind: str
    rounds: int
    timings: list[Timing]
    line: Fit
    link: Link


@dataclass(frozen=True)
class Prediction:
    """Steps on more ranks.

    Attributes:
        workload: the model.
        measured: the step on the ranks of this job, with the measured time of its exchange.
        cluster: where the ranks are taken to be.
        is_alike: links between nodes were not measured, and are taken to be like the others.
        ranks: numbers of ranks.
        steps: for each of them, by algorithm.
    """

    workload: Workload
    measured: Step
    cluster: Cluster
    is_alike: bool
    ranks: Sequence[int]
    steps: list[dict[str, Step]]


def predict(found: Result, workload: Workload, between: Link | None, ranks_per_node: int) -> Prediction:
    """Steps of a model on 2 … 4096 ranks.

    Args:
        found: what was measured; the size of the gradients is among the sizes.
        workload: the model.
        between: links between nodes; None: as those that were measured.
        ranks_per_node: of the nodes to come.
    """
    cluster = Cluster(found.link, between or found.link, ranks_per_node)
    exchange_s = next(one.exchange_s for one in found.timings if one.nbytes == workload.gradient_bytes)
    measured = cost.step(workload.step_s, exchange_s)
    steps = cost.predict(workload.gradient_bytes, workload.step_s, cluster, RANKS)
    return Prediction(workload, measured, cluster, between is None, RANKS, steps)


def as_json(found: Result, prediction: Prediction | None) -> dict[str, Any]:
    """What is written into the file of `--json`. Times in seconds, sizes in bytes."""
    content = asdict(found)
    if prediction is not None:
        content["prediction"] = asdict(prediction)
    return content


def link_from(path: str) -> Link:
    """The link between nodes that an earlier run has written by `--json`.

    Raises:
        ArgumentError: no such file, another kind of file, or the ranks of that run were all on one node.
    """
    try:
        content = json.loads(Path(path).read_text())
        nodes = int(content["nodes"])
        link = Link(float(content["link"]["alpha_s"]), float(content["link"]["beta_s"]))
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArgumentError(f"{path} was not written by `distrain bench comm --json` ({error!r}).") from error
    if not (0 <= link.alpha_s < math.inf and 0 <= link.beta_s < math.inf):
        raise ArgumentError(f"{path}: α and β must be 0 or more, not {link.alpha_s} and {link.beta_s}.")
    if nodes < 2:
        raise ArgumentError(
            f"{path} was measured on one node and says nothing about links between nodes. Start one rank on each of "
            "two nodes: `srun -N 2 --ntasks-per-node=1 python -m distrain.comm.bench --json FILE`."
        )
    return link


def lines(found: Result, prediction: Prediction | None) -> Iterator[str]:
    """What is shown of it."""
    yield (
        f"{found.ranks} ranks on {_counted(found.nodes, 'node')}, {found.mpi}, DISTRAIN_COMM={found.kind}; sums of "
        f"float32, median of {_counted(found.rounds, 'round')}, the slowest rank of each"
    )
    rows = [("size", "exchange", "bus bandwidth", "/ raw", "allreduce", "/ raw", "hierarchical", "/ raw", "raw MPI")]
    for one in found.timings:
        bandwidth = cost.bus_bandwidth(one.nbytes, one.exchange_s, found.ranks)
        ours = (_duration(one.exchange_s), _rate(bandwidth), f"{one.exchange_s / one.raw_s:.2f}")
        compared = (_duration(one.allreduce_s), f"{one.allreduce_s / one.raw_s:.2f}")
        shared = (_duration(one.hierarchical_s), f"{one.hierarchical_s / one.raw_s:.2f}")
        rows.append((_size(one.nbytes), *ours, *compared, *shared, _duration(one.raw_s)))
    yield from _table(rows)
    line, link = found.line, found.link
    rest = f"bytes / ({_rate(1 / line.byte_s)})" if line.byte_s else "nothing for bytes"
    yield (
        f"exchange = {_duration(line.latency_s)} + {rest}; "
        f"largest relative error of this fit: {line.error:.0%}, at {_size(line.worst)}"
    )
    yield f"α = {_duration(link.alpha_s)} a message, β = {_digits(link.beta_s * 1e9)} ns a byte"
    if line.error > _POOR or not line.latency_s or not line.byte_s:
        yield "The line fits poorly: measure when nothing else runs here, or take --sizes near that of your gradients."
    if prediction is not None:
        yield ""
        yield from _predicted(found, prediction)


def _predicted(found: Result, made: Prediction) -> Iterator[str]:
    work, cluster, now = made.workload, made.cluster, made.measured
    yield (
        f"A step of {_duration(work.step_s)} on one rank, with {_size(work.gradient_bytes)} of gradients. On "
        f"{found.ranks} ranks, with the exchange as measured: {_duration(now.seconds)}, {now.efficiency:.0%}."
    )
    links = f"α = {_duration(cluster.between.alpha_s)}, β = {_digits(cluster.between.beta_s * 1e9)} ns a byte"
    if made.is_alike:
        links = "as measured here (--between gives others)"
    yield f"Predicted step and efficiency; {_counted(cluster.ranks_per_node, 'rank')} a node; between nodes {links}:"
    rows = [("ranks", *(part for name in cost.ALGORITHMS for part in (name, "")))]
    for ranks, steps in zip(made.ranks, made.steps, strict=True):
        cells = (part for one in steps.values() for part in (_duration(one.seconds), f"{one.efficiency:.0%}"))
        rows.append((str(ranks), *cells))
    yield from _table(rows)
    yield "Not in it: stragglers, what ranks of a node take from each other, overlap with the backward pass."


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if value >= scale:
            return f"{_digits(value / scale)} {unit}"
    return f"{_digits(value * 1e6)} µs"


def _rate(value: float) -> str:
    return f"{_digits(value / 1e9)} GB/s" if value >= 1e9 else f"{_digits(value / 1e6)} MB/s"


def _digits(value: float) -> str:
    """Three digits, zeros at the end too: columns are easier to compare."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def _size(nbytes: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if nbytes % scale == 0:
            return f"{nbytes // scale} {unit}"
    return f"{nbytes} B" if nbytes < 10**5 else f"{_digits(nbytes / 1e6)} MB"
