"""Time that a Trainer with ten extensions adds to an iteration of the bare updater.

    python -m benchmarks.extensions [--rounds 40]

An MLP 784-50-50-10 on 60,000 random images, batch 100, Adam, one BLAS thread. One contestant calls `updater.update()`
in a loop; the other runs a Trainer with ten extensions: a log every 100 iterations, a printed row and a plot every
epoch, a progress bar, a schedule, the learning rate and statistics of the parameters every epoch, gradient norms and
throughput every 100 iterations, and `unchain_variables`. Each runs in a process of its own; a turn is one epoch.
Printed are medians, their difference and their ratio.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks.trainer_loop import BATCH, random_images
from benchmarks.turns import serve, take_turns

UNITS = 50
TURN = 600  # iterations: one epoch
LIMIT_US = 30


def make_updater() -> Any:
    import distrain
    import distrain.functions as F
    import distrain.links as L
    from distrain import training

    layers = [L.Linear(784, UNITS), F.relu, L.Linear(UNITS, UNITS), F.relu, L.Linear(UNITS, 10)]
    optimizer = distrain.optimizers.Adam().setup(L.Classifier(distrain.Sequential(*layers)))
    train = distrain.datasets.TupleDataset(*random_images())
    return training.StandardUpdater(distrain.iterators.SerialIterator(train, BATCH), optimizer)


def run_updater(next_turn: Callable[[], None]) -> None:
    updater = make_updater()
    next_turn()
    for iteration in itertools.count(1):
        updater.update()
        if iteration % TURN == 0:
            next_turn()


def run_trainer(next_turn: Callable[[], None]) -> None:
    from distrain import training
    from distrain.training import extensions

    updater = make_updater()
    with tempfile.TemporaryDirectory() as out:
        trainer = training.Trainer(updater, None, out)
        every_100, every_epoch = (100, "iteration"), (1, "epoch")
        for extension, trigger in [
            (extensions.LogReport(trigger=every_100), None),
            (extensions.PrintReport(["epoch", "main/loss", "main/accuracy", "lr"], out=sys.stderr), every_epoch),
            (extensions.PlotReport(["main/loss", "main/accuracy"]), None),
            (extensions.ProgressBar(out=sys.stderr), None),
            (extensions.ExponentialShift("alpha", 0.99), every_epoch),
            (extensions.observe_lr(), every_epoch),
            (extensions.ParameterStatistics(updater.get_optimizer("main").target), every_epoch),
            (extensions.GradientReport(100), None),
            (extensions.Throughput(), every_100),
            (extensions.unchain_variables(), None),
        ]:
            trainer.extend(extension, trigger=trigger)
        next_turn()
        trainer.extend(lambda trainer: next_turn(), name="turn", trigger=(TURN, "iteration"), priority=-1000)
        trainer.run()


CONTESTANTS = {"bare updater": run_updater, "Trainer, 10 extensions": run_trainer}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time that a Trainer with ten extensions adds to an iteration.")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each contestant (default: 40)")
    parser.add_argument("--serve", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.serve:
        CONTESTANTS[args.serve](serve(TURN))
        return
    commands = {name: ["-m", "benchmarks.extensions", "--serve", name] for name in CONTESTANTS}
    results = take_turns(commands, 1, args.rounds)
    bare, ours = (results[name].median for name in CONTESTANTS)
    added_us = 1e6 * (ours - bare)
    for name, result in results.items():
        print(f"{name:24}{1e3 * result.median:7.3f} ms an iteration")
    print(
        f"added {added_us:.0f} µs {'<=' if added_us <= LIMIT_US else '> '} {LIMIT_US} µs"
        f"{'' if added_us <= LIMIT_US else '  MISSED'}, {ours / bare:.2f} x"
    )


if __name__ == "__main__":
    main()
