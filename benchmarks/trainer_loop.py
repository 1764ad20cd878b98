"""Time of one iteration of a whole training on the CPU, beside a loop in bare NumPy and beside PyTorch.

    python -m benchmarks.trainer_loop [--rounds 20]

An MLP 784-n-n-10 on 60,000 random images of MNIST's shape, batch 100, Adam. distrain runs Trainer, StandardUpdater,
SerialIterator and a LogReport every 100 iterations; `bare_numpy` does the same work by hand; PyTorch takes its batches
from a DataLoader with 0 and with 2 workers. All sum up loss and accuracy of every iteration. Each runs in a process of
its own, with 1 and with 2 BLAS threads. Printed are medians, ratios and the peak memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Callable

import numpy as np

from benchmarks import bare_numpy
from benchmarks.turns import Result, serve, take_turns, verdict

BATCH = 100
TURN = {50: 600, 1000: 40}  # iterations of a turn by units
LIMIT = {50: 1.30, 1000: 1.05}  # times the bare loop
MEMORY_LIMIT = 60 * 2**20  # bytes over the bare loop


def random_images() -> tuple[np.ndarray, np.ndarray]:
    """Random images whose labels can be learned; with labels at random all units die, and nothing is left to time."""
    rng = np.random.default_rng(0)
    x = rng.random((60_000, 784), np.float32)
    W = rng.standard_normal((784, 10), np.float32)
    t = (x @ W - W.sum(axis=0) / 2).argmax(axis=1)
    return x, t.astype(np.int32)


def run_numpy(units: int, turn: int, next_turn: Callable[[], None]) -> None:
    bare_numpy.train(*random_images(), units, BATCH, turn, next_turn)


def run_distrain(units: int, turn: int, next_turn: Callable[[], None]) -> None:
    import distrain
    import distrain.functions as F
    import distrain.links as L
    from distrain import training
    from distrain.training import extensions

    class MLP(distrain.Chain):
        def __init__(self) -> None:
            super().__init__()
            with self.init_scope():
                self.l1 = L.Linear(None, units)
                self.l2 = L.Linear(None, units)
                self.l3 = L.Linear(None, 10)

        def forward(self, x):
            return self.l3(F.relu(self.l2(F.relu(self.l1(x)))))

    train = distrain.datasets.TupleDataset(*random_images())
    model = L.Classifier(MLP())
    optimizer = distrain.optimizers.Adam().setup(model)
    updater = training.StandardUpdater(distrain.iterators.SerialIterator(train, BATCH), optimizer)
    with tempfile.TemporaryDirectory() as out:
        trainer = training.Trainer(updater, (10**9, "iteration"), out=out)
        trainer.extend(extensions.LogReport(trigger=(100, "iteration")))
        trainer.extend(lambda trainer: next_turn(), name="turn", trigger=(turn, "iteration"))
        next_turn()
        trainer.run()


def run_torch(units: int, turn: int, next_turn: Callable[[], None], workers: int) -> None:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, t = random_images()
    dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(t.astype(np.int64)))
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    model = nn.Sequential(nn.Linear(784, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 10))
    optimizer = torch.optim.Adam(model.parameters())
    log: list[tuple[float, float]] = []
    loss_sum = accuracy_sum = 0.0
    step = 0
    next_turn()
    while True:
        for xb, tb in loader:
            optimizer.zero_grad()
            y = model(xb)
            loss = nn.functional.cross_entropy(y, tb)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
            accuracy_sum += (y.argmax(1) == tb).sum().item() / BATCH
            step += 1
            if step % 100 == 0:
                log.append((loss_sum / 100, accuracy_sum / 100))
                loss_sum = accuracy_sum = 0.0
            if step % turn == 0:
                next_turn()


CONTESTANTS: dict[str, Callable[[int, int, Callable[[], None]], None]] = {
    "bare NumPy": run_numpy,
    "distrain": run_distrain,
    "PyTorch, 0 workers": lambda *args: run_torch(*args, workers=0),
    "PyTorch, 2 workers": lambda *args: run_torch(*args, workers=2),
}


def compare(units: int, threads: int, rounds: int) -> None:
    names = [name for name in CONTESTANTS if not name.startswith("PyTorch") or importlib.util.find_spec("torch")]
    commands = {name: ["-m", "benchmarks.trainer_loop", "--serve", name, "--units", str(units)] for name in names}
    results = take_turns(commands, threads, rounds)
    bare, ours = results["bare NumPy"], results["distrain"]
    print(f"\n784-{units}-{units}-10, {threads} BLAS thread{'s' * (threads > 1)}")
    for name, result in results.items():
        print(f"  {name:20}{1e3 * result.median:8.3f} ms an iteration{result.peak / 2**20:8.0f} MiB")
    print(f"  distrain / bare NumPy       {verdict(ours.median / bare.median, LIMIT[units])}")
    torch = [result for name, result in results.items() if name.startswith("PyTorch")]
    if torch:
        best = min(torch, key=lambda result: result.median)
        print(f"  distrain / PyTorch          {verdict(ours.median / best.median, 1.0)}")
    print(f"  memory over bare NumPy      {_memory(ours, bare)}", flush=True)


def _memory(ours: Result, bare: Result) -> str:
    over = ours.peak - bare.peak
    return f"{over / 2**20:.0f} MiB {'<=' if over <= MEMORY_LIMIT else '> '} {MEMORY_LIMIT / 2**20:.0f} MiB" + (
        "  MISSED" * (over > MEMORY_LIMIT)
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time of a training's iteration, beside bare NumPy's and PyTorch's.")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each contestant (default: 20)")
    parser.add_argument("--units", type=int, nargs="+", choices=TURN, default=list(TURN), help="of the hidden layers")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="BLAS threads (default: 1 and 2)")
    parser.add_argument("--serve", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.serve:
        (units,) = args.units
        CONTESTANTS[args.serve](units, TURN[units], serve(TURN[units]))
        return
    if not importlib.util.find_spec("torch"):
        print("PyTorch is not installed and left out; to install it: pip install -e '.[bench]'")
    for units in args.units:
        for threads in args.threads:
            compare(units, threads, args.rounds)


if __name__ == "__main__":
    main()
