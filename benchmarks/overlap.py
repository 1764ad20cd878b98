"""How much of a slow network hides behind the computing, on two ranks; leaves pictures of time.

    python -m benchmarks.overlap --out overlap

The network is the real one, and each collective of gradients takes so much longer that a step's gradients take about as
long as the backward pass. The computing is a wait too, so that the two do not compete for cores and the figures say
what the library does: a step takes the longer of computing and exchange, and not both together. `overlap/buckets/trace`
and so on are for https://ui.perfetto.dev.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

LAYERS = 8
NUMBERS = 1000  # of a layer's parameter
WORK_S = {"forward": 0.006, "backward": 0.012}  # of a layer
SENDING_S = 0.012  # of a layer's gradient
FIRST, STEPS = 6, 4  # iterations before and in the picture


def slow(channel: Any) -> Any:
    """A channel whose sums take as long as those of a slow network."""
    from distrain.comm.channel import Channel

    class Slow(Channel):
        may_thread = channel.may_thread

        def allreduce(self, flat: Any) -> None:
            time.sleep(SENDING_S * flat.size / NUMBERS)
            channel.allreduce(flat)

        def alltoall(self, *args: Any) -> None:
            channel.alltoall(*args)

        def allgather(self, *args: Any) -> None:
            channel.allgather(*args)

        def close(self) -> None:
            channel.close()

    return Slow()


def model() -> Any:
    import distrain
    import distrain.functions as F
    from distrain.autograd import FunctionNode

    class Work(FunctionNode):
        def forward(self, inputs: Any) -> Any:
            time.sleep(WORK_S["forward"])
            return (inputs[0].copy(),)

        def backward(self, indexes: Any, gradients: Any) -> Any:
            time.sleep(WORK_S["backward"])
            return gradients

    class Deep(distrain.Chain):
        def __init__(self) -> None:
            super().__init__()
            with self.init_scope():
                for i in range(LAYERS):
                    setattr(self, f"w{i}", distrain.Parameter(1.0, (NUMBERS,)))

        def forward(self, x: Any) -> Any:
            h = F.mean(x, axis=0)
            for i in range(LAYERS):
                (h,) = Work().apply((h * getattr(self, f"w{i}"),))
            return F.sum(h)

    return Deep()


def train(how: str, out: str) -> dict[str, float]:
    """Trains with one way to exchange gradients; seconds of an iteration and of what it consists of."""
    import distrain
    from distrain import training
    from distrain.training import extensions

    optimizer = distrain.optimizers.SGD(lr=1e-6).setup(model())
    optimizer.use_exchange(how, bucket_bytes=4 * NUMBERS)
    iterator = distrain.iterators.SerialIterator(np.ones((8, NUMBERS), np.float32), 8)
    trainer = training.Trainer(training.StandardUpdater(iterator, optimizer), (FIRST + STEPS, "iteration"), out=out)
    trainer.extend(extensions.Trace(start=FIRST, iterations=STEPS))
    trainer.run()
    with open(f"{out}/trace/rank-{distrain.comm.world().rank:03d}.json") as file:
        events = [event for event in json.load(file)["traceEvents"] if event["ph"] == "X"]
    seconds = {
        name: sum(event["dur"] for event in events if event["name"].startswith(name)) / STEPS / 1e6
        for name in ("iteration", "forward", "backward", "sending", "exchange")
    }
    seconds["computing"] = seconds["forward"] + seconds["backward"]
    seconds["hidden"] = seconds["sending"] - seconds["exchange"]
    return seconds


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How much of a slow network hides behind the computing.")
    parser.add_argument("--out", help="where the pictures stay")
    parser.add_argument("--json", help="a file for the figures of rank 0")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if not args.work:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "distrain_launch", "run", "-n", "2", __file__, "--work"]
            paths = [os.getcwd(), os.path.join(os.getcwd(), "launch"), os.environ.get("PYTHONPATH", "")]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
            more = [] if args.json is None else ["--json", args.json]
            subprocess.run([*command, "--out", args.out or folder, *more], env=environment, timeout=120, check=True)
        return
    import distrain

    world = distrain.comm.world()
    world.channel = slow(world.channel)
    figures = {how: train(how, f"{args.out}/{how}") for how in ("direct", "buckets", "double")}
    for how, seconds in figures.items():
        told = ", ".join(f"{name} {seconds[name] * 1e3:.1f} ms" for name in ("computing", "sending", "hidden"))
        world.print(f"{how:8} a step takes {seconds['iteration'] * 1e3:.1f} ms: {told}")
    if args.json is not None and world.rank == 0:
        with open(args.json, "w") as file:
            json.dump(figures, file)


if __name__ == "__main__":
    main()
