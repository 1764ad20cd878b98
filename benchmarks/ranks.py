"""Samples a second of two ranks, beside one.

    python -m benchmarks.ranks [--rounds 5]

An MLP 784-1000-1000-10 with Adam on random images, batch 100 a rank, one BLAS thread a rank, started by `distrain run`.
The two jobs run alternately. Printed are medians and the ratio of the two.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.turns import thread_limits

BATCH = 100
UNITS = 1000
STEPS, WARM_UP = 120, 20
LIMIT = 1.6  # times the samples a second of one rank


def work() -> None:
    import distrain
    import distrain.functions as F
    import distrain.links as L
    from distrain import training

    rng = np.random.default_rng(0)
    x = rng.random((20_000, 784), np.float32)
    train = distrain.datasets.TupleDataset(x, rng.integers(0, 10, len(x)).astype(np.int32))
    layers = [L.Linear(784, UNITS), F.relu, L.Linear(UNITS, UNITS), F.relu, L.Linear(UNITS, 10)]
    optimizer = distrain.optimizers.Adam().setup(L.Classifier(distrain.Sequential(*layers)))
    iterator = distrain.iterators.SerialIterator(train, BATCH, batch="per-rank")
    updater = training.StandardUpdater(iterator, optimizer)
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            start = time.perf_counter()
        updater.update()
    world = distrain.comm.world()
    world.print(STEPS * BATCH * world.size / (time.perf_counter() - start))


def samples_per_second(ranks: int) -> float:
    command = [sys.executable, "-m", "distrain_launch", "run", "-n", str(ranks), __file__, "--work"]
    paths = [os.getcwd(), os.path.join(os.getcwd(), "launch"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **thread_limits(1), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return float(done.stdout)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Samples a second of two ranks, beside one.")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each job (default: 5)")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.work:
        work()
        return
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(args.rounds):
        for ranks, measured in speeds.items():
            measured.append(samples_per_second(ranks))
    one, two = (statistics.median(measured) for measured in speeds.values())
    missed = "" if two / one >= LIMIT else "  MISSED"
    print(f"1 rank {one:.0f} samples/s  2 ranks {two:.0f} samples/s  {two / one:.2f} >= {LIMIT}{missed}")


if __name__ == "__main__":
    main()
