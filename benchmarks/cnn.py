"""Time of one training step of a small convolutional network on the CPU, beside PyTorch's.

    python benchmarks/cnn.py [--rounds 20] [--steps 5]

A step is forward, backward and an Adam update of conv 3x3 - relu - max pooling 2 - conv 3x3 - relu - max pooling 2 -
linear, on a batch of 64 random images: 1 x 28 x 28 with 16 and 32 channels, and 3 x 32 x 32 with 32 and 64 channels.
Each library runs in a process of its own, with 1 and with 2 BLAS threads, and they take turns of a few steps, so that
whatever else the machine does hits them alike. Printed are medians in milliseconds and their ratio.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

BATCH = 64
NETS = {"1x28x28, 16/32 channels": (1, 28, 16, 32), "3x32x32, 32/64 channels": (3, 32, 32, 64)}


def distrain_step(channels: int, size: int, first: int, second: int) -> Callable[[], None]:
    import distrain.functions as F
    import distrain.links as L
    from distrain import optimizers

    class Net(L.Chain):
        def __init__(self) -> None:
            super().__init__()
            with self.init_scope():
                self.conv1 = L.Convolution2D(channels, first, 3, pad=1)
                self.conv2 = L.Convolution2D(first, second, 3, pad=1)
                self.l3 = L.Linear(second * (size // 4) ** 2, 10)

        def forward(self, x):
            h = F.max_pooling_2d(F.relu(self.conv1(x)), 2)
            h = F.max_pooling_2d(F.relu(self.conv2(h)), 2)
            return self.l3(h)

    net = Net()
    optimizer = optimizers.Adam().setup(net)
    x = np.random.default_rng(0).normal(size=(BATCH, channels, size, size)).astype(np.float32)
    t = np.random.default_rng(1).integers(0, 10, BATCH).astype(np.int32)
    return lambda: optimizer.update(lambda: F.softmax_cross_entropy(net(x), t))


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


def serve(library: str) -> None:
    """Runs as many steps of a net as a line on stdin asks for and answers with their times."""
    make = {"distrain": distrain_step, "torch": torch_step}[library]
    step_of = {name: make(*net) for name, net in NETS.items()}
    for line in sys.stdin:
        name, count = json.loads(line)
        times = []
        for _ in range(count):
            start = time.perf_counter()
            step_of[name]()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


def start(library: str, threads: int) -> subprocess.Popen[str]:
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        [sys.executable, __file__, "--serve", library],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **limits},
    )


def ask(server: subprocess.Popen[str], name: str, count: int) -> list[float]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps([name, count]) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    if not answer:
        raise SystemExit("a process of the benchmark ended early; its error stands above")
    return json.loads(answer)


def compare(rounds: int, steps: int) -> None:
    libraries = ("distrain", "torch")
    for threads in (1, 2):
        servers = {library: start(library, threads) for library in libraries}
        try:
            for name in NETS:
                times: dict[str, list[float]] = {library: [] for library in libraries}
                for turn in range(rounds + 2):  # the first two warm up
                    for library in libraries:
                        taken = ask(servers[library], name, steps)
                        if turn >= 2:
                            times[library] += taken
                ours, theirs = [1e3 * statistics.median(times[library]) for library in libraries]
                print(
                    f"{threads} thread{'s' * (threads > 1):1}  {name}:  distrain {ours:6.2f} ms  "
                    f"torch {theirs:6.2f} ms  ratio {ours / theirs:.2f}",
                    flush=True,
                )
        finally:
            for server in servers.values():
                server.kill()
                server.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a CNN's training step, beside PyTorch's.")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each library")
    parser.add_argument("--steps", type=int, default=5, help="steps a turn")
    parser.add_argument("--serve", choices=("distrain", "torch"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
    elif importlib.util.find_spec("torch") is None:
        raise SystemExit("PyTorch is not installed; run: pip install -e '.[bench]'")
    else:
        compare(args.rounds, args.steps)


if __name__ == "__main__":
    main()
