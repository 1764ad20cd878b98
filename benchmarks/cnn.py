"""Time of one training step of a small convolutional network on the CPU, beside PyTorch's.

    python -m benchmarks.cnn [--rounds 15]

A step is forward, backward and an Adam update of conv 3x3 - relu - max pooling 2 - conv 3x3 - relu - max pooling 2 -
linear, on a batch of 64 random images: 1 x 28 x 28 with 16 and 32 channels, and 3 x 32 x 32 with 32 and 64 channels.
Each library runs in a process of its own, with 1 and with 2 BLAS threads. Printed are medians and their ratio.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable

import numpy as np

from benchmarks.turns import serve, take_turns, verdict

BATCH = 64
TURN = 30  # steps; the first ones after a pause are slow, until both threads have a core of their own
LIMIT = 2.0  # times PyTorch's step
NETS = {"1x28x28, 16/32 channels": (1, 28, 16, 32), "3x32x32, 32/64 channels": (3, 32, 32, 64)}


def distrain_step(channels: int, size: int, first: int, second: int) -> Callable[[], None]:
    import distrain
    import distrain.functions as F
    import distrain.links as L

    net = distrain.Sequential(
        L.Convolution2D(channels, first, 3, pad=1),
        F.relu,
        lambda h: F.max_pooling_2d(h, 2),
        L.Convolution2D(first, second, 3, pad=1),
        F.relu,
        lambda h: F.max_pooling_2d(h, 2),
        L.Linear(second * (size // 4) ** 2, 10),
    )
    model = L.Classifier(net, accfun=None)
    optimizer = distrain.optimizers.Adam().setup(model)
    x = np.random.default_rng(0).normal(size=(BATCH, channels, size, size)).astype(np.float32)
    t = np.random.default_rng(1).integers(0, 10, BATCH).astype(np.int32)
    return lambda: optimizer.update(model, x, t)


def torch_step(channels: int, size: int, first: int, second: int) -> Callable[[], None]:
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    net = nn.Sequential(
        nn.Conv2d(channels, first, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * (size // 4) ** 2, 10),
    )
    optimizer = torch.optim.Adam(net.parameters())
    x = torch.randn(BATCH, channels, size, size)
    t = torch.randint(0, 10, (BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), t).backward()
        optimizer.step()

    return step


LIBRARIES = {"distrain": distrain_step, "PyTorch": torch_step}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time of a CNN's training step, beside PyTorch's.")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each library (default: 15)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="BLAS threads (default: 1 and 2)")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.serve:
        library, net = args.serve
        step, next_turn = LIBRARIES[library](*NETS[net]), serve(TURN)
        while True:
            next_turn()
            for _ in range(TURN):
                step()
    if not importlib.util.find_spec("torch"):
        print("PyTorch is not installed, so there is nothing to compare with; to install it: pip install -e '.[bench]'")
        return
    for threads in args.threads:
        for net in NETS:
            commands = {library: ["-m", "benchmarks.cnn", "--serve", library, net] for library in LIBRARIES}
            results = take_turns(commands, threads, args.rounds)
            ours, theirs = (results[library].median for library in LIBRARIES)
            print(
                f"{net}, {threads} BLAS thread{'s' * (threads > 1)}:  distrain {1e3 * ours:.2f} ms  "
                f"PyTorch {1e3 * theirs:.2f} ms  {verdict(ours / theirs, LIMIT)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
