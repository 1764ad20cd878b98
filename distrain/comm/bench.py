"""What communication costs here, measured, and what that means for a training on more ranks.

    distrain bench comm -n 2
    srun python -m distrain.comm.bench --json between.json

The ranks sum float32 arrays of several sizes in four ways, in turn: as gradients are summed (the communicator's
channel), by `comm.allreduce(x, out=x)`, which compares first, by the channel of a hierarchical communicator, and by
mpi4py's `Allreduce` alone. A line through the first, α and β from it, and steps predicted from these are `cost.py`'s.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distrain import files
from distrain.comm import bench_report, cost
from distrain.comm.bench_report import Result, Timing, Workload
from distrain.comm.communicator import Communicator
from distrain.comm.cost import Link
from distrain.comm.mpi import MpiCommunicator
from distrain.comm.world import world as job
from distrain.errors import ArgumentError

SIZES = tuple(2**i for i in range(10, 27, 2))  # bytes: 1 KiB … 64 MiB
_UNITS = {None: 1, "K": 2**10, "M": 2**20, "G": 2**30}
_WARM_UP = 2
_BURST, _MOST_CALLS = 2**20, 64  # a round sums about so many bytes: a clock cannot be trusted with one short call


def measure(comm: Communicator, sizes: Sequence[int], rounds: int) -> list[Timing]:
    """Times the ways to sum, size by size. A collective.

    Args:
        comm: all ranks of the job, two or more.
        sizes: bytes, multiples of 4.
        rounds: of each size; all ways have their turn in each.
    """
    from mpi4py import MPI

    raw = MPI.COMM_WORLD.Dup()
    hierarchical = MpiCommunicator(MPI.COMM_WORLD.Dup(), "hierarchical")
    sums = [
        comm.channel.allreduce,
        lambda x: comm.allreduce(x, out=x),
        hierarchical.channel.allreduce,
        lambda x: raw.Allreduce(MPI.IN_PLACE, x),
    ]
    timings = [_measure_one(comm, raw, sums, size, rounds) for size in sizes]
    raw.Free()  # not after an error: it would wait for ranks that have none
    return timings


def _measure_one(
    comm: Communicator, raw: Any, sums: Sequence[Callable[[Any], object]], size: int, rounds: int
) -> Timing:
    x = np.zeros(size // 4, np.float32)
    x[...] = 0.0  # its pages are there before the clock runs
    calls = min(_MOST_CALLS, max(1, _BURST // size))
    seconds = np.empty((rounds + _WARM_UP, len(sums)))
    for row in seconds:
        for i, add_up in enumerate(sums):
            raw.Barrier()
            start = time.perf_counter()
            for _ in range(calls):
                add_up(x)
            row[i] = (time.perf_counter() - start) / calls
    slowest = np.max(comm.allgather(seconds[_WARM_UP:]), axis=0)
    return Timing(size, *(statistics.median(column) for column in slowest.T.tolist()))


def run(comm: Communicator, sizes: Sequence[int], rounds: int) -> Result:
    """Measures, and fits the model to it. A collective.

    Raises:
        ArgumentError: one rank, or fewer than two sizes.
    """
    if comm.size < 2:
        raise ArgumentError(
            "one rank has nobody to send to, so there is nothing to measure. Start two or more: "
            "`distrain bench comm -n 2`, or `mpiexec -n 2 python -m distrain.comm.bench`."
        )
    timings = measure(comm, sizes, rounds)
    line = cost.fit([one.nbytes for one in timings], [one.exchange_s for one in timings])
    link = cost.link_of(line, comm.size)
    return Result(comm.size, comm.inter_size, _library(), comm.kind, rounds, timings, line, link)


def _library() -> str:
    from mpi4py import MPI

    first = MPI.Get_library_version().strip("\0 \n").splitlines()[0].partition(",")[0]
    return " ".join(first.replace("Version:", "").split())


def size(text: str) -> int:
    """Bytes: a number, which may end in K, M or G (or KiB …) for powers of 1024."""
    match = re.fullmatch(r"(\d+)(?:([KMG])(?:iB)?)?", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes such as 4096, 64K or 1MiB")
    nbytes = int(match[1]) * _UNITS[match[2]]
    if nbytes < 4 or nbytes % 4:
        raise argparse.ArgumentTypeError(f"{text!r}: arrays are float32, so bytes must be a multiple of 4")
    return nbytes


def sizes(text: str) -> list[int]:
    """Sizes with commas between them, the smallest first."""
    found = sorted({size(part) for part in text.split(",")})
    if len(found) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: α and β need two different sizes at least")
    return found


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be more than 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return value


def parser() -> argparse.ArgumentParser:
    """The options, but those of the launcher."""
    made = argparse.ArgumentParser(
        prog="distrain bench comm",
        description="Measures sums over the ranks, and predicts training steps on more of them.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--sizes", type=sizes, default=list(SIZES), metavar="LIST", help="bytes, as 1K,64K,1M (default: 1 KiB … 64 MiB)"
    )
    made.add_argument("--rounds", type=_count, default=15, metavar="N", help="of each size (default: %(default)s)")
    made.add_argument("--gradient-bytes", type=size, metavar="B", help="of the model whose steps are to be predicted")
    made.add_argument("--step-seconds", type=_positive, metavar="S", help="a step of that model on one rank alone")
    made.add_argument(
        "--ranks-per-node", type=_count, metavar="N", help="of the nodes to come (default: as many as on this one now)"
    )
    made.add_argument(
        "--between", metavar="FILE", help="the --json of a run with its ranks on different nodes: links between nodes"
    )
    made.add_argument("--json", metavar="FILE", help="write all numbers to FILE too")
    made.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # for the launcher: only the options
    return made


def _parsed(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Workload | None, Link | None]:
    made = parser()
    options = made.parse_args(arguments)
    if (options.gradient_bytes is None) != (options.step_seconds is None):
        made.error("--gradient-bytes and --step-seconds describe a model together; give both or neither")
    workload = None if options.step_seconds is None else Workload(options.gradient_bytes, options.step_seconds)
    if workload is None and (options.ranks_per_node or options.between):
        made.error("--ranks-per-node and --between are for predictions; give --gradient-bytes and --step-seconds too")
    if options.json is not None and not Path(options.json).absolute().parent.is_dir():
        made.error(f"--json {options.json}: there is no folder {Path(options.json).absolute().parent}")
    try:
        return options, workload, bench_report.link_from(options.between) if options.between else None
    except ArgumentError as error:
        made.error(f"--between {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of a rank. Returns its exit code."""
    options, workload, between = _parsed(arguments)
    if options.check:
        return 0
    comm = job()
    tried = sorted({*options.sizes, *([workload.gradient_bytes] if workload else [])})
    try:
        found = run(comm, tried, options.rounds)
    except ArgumentError as error:
        print(f"distrain bench comm: {error}", file=sys.stderr)
        return 2
    prediction = None
    if workload is not None:
        ranks_per_node = options.ranks_per_node or comm.intra_size
        prediction = bench_report.predict(found, workload, between, ranks_per_node)
    for line in bench_report.lines(found, prediction):
        comm.print(line)
    if options.json is not None and comm.rank == 0:
        with files.atomic_write(options.json) as stream:
            stream.write(json.dumps(bench_report.as_json(found, prediction), indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
