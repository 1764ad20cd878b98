"""A training of which a rank is killed every few seconds, beside one that is left alone: the weights, and the time.

    python -m benchmarks.kills [--seconds 120] [--every 5] [--ranks 2] [--seed 0]

An MLP 784-100-100-10 with dropout and Adam in reproducible mode, with a snapshot every 10 iterations, is started by
`distrain run --max-restarts`. For so many seconds a rank that is drawn by lot gets SIGKILL, on average every so many
seconds, whatever it is doing: starting, training, saving. Then the job is told to stop by SIGUSR1, and started once
more for 50 further iterations, which end it. The same number of iterations is trained without any of this. Printed are
the kills, the launcher's figures, the seconds of both, and whether the weights are the same, byte for byte; if they are
not, or the job did not get through, the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.launch import environment

SNAPSHOT, REST = 10, 50  # iterations
UNITS = 100
STOPPED = 75
LIMIT_S = 600.0
RESTARTS = ["--max-restarts", "100000", "--restart-delay", "0.1"]


def work(out: Path, last: int) -> None:
    """A rank: trains up to iteration `last`, and leaves the last one's number and a digest of the weights."""
    from distrain.env import rank_info

    own = out / f"rank-{rank_info().rank}"
    own.with_suffix(".new").write_text(str(os.getpid()))
    own.with_suffix(".new").rename(own)
    import distrain
    import distrain.functions as F
    import distrain.links as L
    from distrain import training
    from distrain.training import extensions

    numbers = np.random.default_rng(0)
    x = numbers.random((5000, 784), np.float32)
    train = distrain.datasets.TupleDataset(x, numbers.integers(0, 10, len(x)).astype(np.int32))
    layers = [
        L.Linear(784, UNITS),
        F.relu,
        lambda h: F.dropout(h, 0.2),
        L.Linear(UNITS, UNITS),
        F.relu,
        L.Linear(UNITS, 10),
    ]
    model = L.Classifier(distrain.Sequential(*layers))
    optimizer = distrain.optimizers.Adam().setup(model)
    updater = training.StandardUpdater(distrain.iterators.SerialIterator(train, 100), optimizer)
    trainer = training.Trainer(updater, (last, "iteration"), out=out)
    trainer.extend(extensions.LogReport(trigger=(50, "iteration")))
    trainer.extend(extensions.snapshot(n_retains=2), trigger=(SNAPSHOT, "iteration"))
    try:
        trainer.run()
    finally:
        if distrain.comm.world().rank == 0:
            weights = b"".join(p.array.tobytes() for _, p in sorted(model.namedparams()))
            (out / "end").write_text(f"{updater.iteration} {hashlib.sha256(weights).hexdigest()}")


class Job:
    """A training in a folder of its own.

    Args:
        out: the folder.
        ranks: how many.
        last: the iteration that ends it.
        options: more of `distrain run`.
    """

    def __init__(self, out: Path, ranks: int, last: int, *options: str) -> None:
        out.mkdir(exist_ok=True)
        self._out, self._ranks = out, ranks
        run = [sys.executable, "-m", "distrain_launch", "run", "-n", str(ranks), "--reproducible", "--seed", "1"]
        self._began = time.monotonic()
        self._child = subprocess.Popen(
            [*run, *options, __file__, "--work", str(out), str(last)],
            env={**environment(), "DISTRAIN_JOB": "kills"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._words = ""

    def kill_some(self, seconds: float, every: float, chance: random.Random) -> int:
        """Kills ranks for so many seconds; returns how many."""
        end, kills = time.monotonic() + seconds, 0
        while (
            pause := chance.uniform(0.5 * every, 1.5 * every)
        ) < end - time.monotonic() and self._child.poll() is None:
            time.sleep(pause)
            kills += self._kill(chance.randrange(self._ranks))
        time.sleep(max(0.0, end - time.monotonic()))
        return kills

    def _kill(self, rank: int) -> bool:
        """Kills a rank if it is there."""
        try:
            pid = int((self._out / f"rank-{rank}").read_text())
            if __file__.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():  # between two attempts
                return False
            os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return True

    def wait_for_training(self) -> None:
        """Waits until it goes on: for three snapshots, since the first may be of ranks that are about to be ended."""
        seen, end = self._snapshots(), time.monotonic() + LIMIT_S
        enough = len(seen) + 3
        while len(seen) < enough and self._child.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
            seen |= self._snapshots()

    def _snapshots(self) -> set[str]:
        return {path.name for path in self._out.glob("snapshot_iter_*")}

    def stop(self) -> None:
        """Tells the job to stop, as a batch system does."""
        self._child.send_signal(signal.SIGUSR1)

    def end(self, code: int) -> tuple[str, float]:
        """Waits for the end; what the launcher has said, and the seconds from the start.

        Raises:
            SystemExit: the job has ended in another way.
        """
        words = self._child.communicate(timeout=LIMIT_S)[1]
        if self._child.returncode != code:
            sys.exit(f"{words}\nthe job ended with code {self._child.returncode} instead of {code}")
        return words, time.monotonic() - self._began

    def result(self) -> tuple[int, str]:
        """The last iteration, and the digest of the weights."""
        iteration, digest = (self._out / "end").read_text().split()
        return int(iteration), digest


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A training of which a rank is killed every few seconds.")
    parser.add_argument("--seconds", type=float, default=120, help="for so long ranks are killed (default: 120)")
    parser.add_argument("--every", type=float, default=5, help="seconds between two kills, on average (default: 5)")
    parser.add_argument("--ranks", type=int, default=2, help="ranks (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="by which ranks and times are drawn (default: 0)")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.work:
        work(Path(args.work[0]), int(args.work[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        killed = Path(folder, "killed")
        job = Job(killed, args.ranks, 10**9, *RESTARTS)
        kills = job.kill_some(args.seconds, args.every, random.Random(args.seed))
        job.wait_for_training()
        job.stop()
        words, seconds = job.end(STOPPED)
        stopped_at, _ = job.result()
        rest = Job(killed, args.ranks, stopped_at + REST, *RESTARTS)
        rest.end(0)
        quiet = Job(Path(folder, "quiet"), args.ranks, stopped_at + REST)
        _, quiet_s = quiet.end(0)
        same = rest.result() == quiet.result()
        restarts = len(re.findall(r"^distrain: restart \d+ of", words, re.MULTILINE))
        print(f"{kills} kills in {seconds:.1f} s, {restarts} restarts, {stopped_at} iterations")
        print(words.splitlines()[-1].removeprefix("distrain: "))
        print(f"left alone, {stopped_at + REST} iterations take {quiet_s:.1f} s")
        print(f"weights {rest.result()[1][:16]} and {quiet.result()[1][:16]}: {'the same' if same else 'NOT THE SAME'}")
        if not same or not restarts:
            sys.exit(1)


if __name__ == "__main__":
    main()
