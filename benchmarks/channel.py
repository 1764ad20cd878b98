"""What the side channel costs a worker in an iteration, and an entry of the log.

    python -m benchmarks.channel

Two ranks, one BLAS thread each. On rank 1: the end of an iteration that sends nothing, one that sends a heartbeat, and
their mean in a training of 1 ms an iteration. Then an entry of a log with ten values: until rank 1 goes on and until
rank 0 has it, beside the collective call that would do the same. Figures are medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.turns import thread_limits

QUIET_US, MEAN_US = 5.0, 20.0  # at most
ITERATION_S = 1e-3
ROUNDS = 300


def timed(call: Callable[[], object], pause_s: float = 0.0, rounds: int = ROUNDS) -> float:
    """Median microseconds of a call."""
    taken = []
    for _ in range(rounds):
        time.sleep(pause_s)
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return 1e6 * statistics.median(taken)


def work() -> None:
    import distrain.links as L
    from distrain import comm, optimizers, training
    from distrain.iterators import SerialIterator
    from distrain.reporting import DictSummary

    world = comm.world()
    folder = tempfile.TemporaryDirectory() if world.rank == 0 else None
    updater = training.StandardUpdater(SerialIterator([0, 1], 2), optimizers.SGD().setup(L.Linear(2, 1)))
    trainer = training.Trainer(updater, None, out=world.bcast_obj(folder and folder.name))
    side = trainer.side_channel
    side.open(trainer)
    if world.rank == 1:
        heartbeats(side)
    world.barrier()

    summary = DictSummary()
    summary.add({f"main/value_{i}": float(i) for i in range(10)})
    merging, sending = side.new_streams(world, 2.0)
    iterations = iter(range(1, 10**9))

    def entry() -> None:
        if merging is not None:
            merging.merge(next(iterations), summary.sums(), 0.0, 2.0)
        elif sending is not None:
            iteration = next(iterations)
            sending.send(iteration, summary.sums())
            sending.receive(iteration, wait=False)

    def collective() -> None:
        summary.over_ranks(world)

    figures = {}
    for name, call in [("side channel", entry), ("collective", collective)]:
        taken = []
        for _ in range(ROUNDS):
            world.barrier()
            taken.append(timed(call, rounds=1))
        figures[name] = statistics.median(taken)
    everybody = world.allgather_obj(figures)
    for name, of_rank_0 in everybody[0].items():
        world.print(f"an entry by the {name:13} rank 0 {of_rank_0:7.1f} µs   rank 1 {everybody[1][name]:7.1f} µs")
    side.close()
    if folder is not None:
        folder.cleanup()


def heartbeats(side: Any) -> None:
    """Prints what the ends of iterations cost this rank."""
    n = 100_000
    side._due = time.perf_counter() + 1e6
    start = time.perf_counter()
    for iteration in range(n):
        side.beat(iteration)
    quiet = 1e6 * (time.perf_counter() - start) / n

    def beat() -> None:
        side._due = 0.0
        side.beat(side._iteration + 1)

    sent = timed(beat, pause_s=0.005)
    mean = quiet + sent * ITERATION_S
    for name, value, limit in [
        ("sends nothing", quiet, QUIET_US),
        ("sends a heartbeat", sent, None),
        ("mean", mean, MEAN_US),
    ]:
        asked = "" if limit is None else f"  (asked: {limit:g}){'' if value <= limit else '  MISSED'}"
        print(f"end of an iteration: {name:20}{value:7.2f} µs{asked}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What the side channel costs.")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args(arguments).work:
        work()
        return
    command = [sys.executable, "-m", "distrain_launch", "run", "-n", "2", __file__, "--work"]
    paths = [os.getcwd(), os.path.join(os.getcwd(), "launch"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **thread_limits(1), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run(command, env=environment, timeout=120, check=True)


if __name__ == "__main__":
    main()
