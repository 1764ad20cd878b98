"""Images per second through TCP with CURVE on one machine, beside shared memory.

    python -m benchmarks.feed_remote [--feeders 1]

The dataset cuts 224 × 224 × 3 out of a larger image, as bytes or as normalised float32; minibatches of 64. Contestants
have the same number of feeders: "shared" forks them beside the rank, "tcp" is fed by `distrain feed` over the loopback
device. With "ready" the samples cost nothing, so that only the way from the feeder to the rank is left. `wire` sends
frames of the size of a piece through a socket with CURVE and does nothing else: what the encryption alone lets through.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks.turns import serve, take_turns

BATCH = 64
ITERATIONS = 12
PR_SET_PDEATHSIG = 1
KINDS = ("uint8", "float32", "uint8-ready", "float32-ready")


class Crops:
    """Random crops of a few images."""

    def __init__(self, kind: str) -> None:
        self.dtype, _, ready = kind.partition("-")
        self.images = np.random.default_rng(0).integers(0, 256, (32, 256, 256, 3), np.uint8)
        self.ready = self._cut(0, 0, 0) if ready else None

    def __len__(self) -> int:
        return 6400

    def __getitem__(self, i: int) -> Any:
        if self.ready is not None:
            return self.ready, np.int32(i)
        top, left = np.random.randint(0, 32, 2)
        return self._cut(i % 32, top, left), np.int32(i)

    def _cut(self, i: int, top: int, left: int) -> Any:
        crop = self.images[i, top : top + 224, left : left + 224]
        return crop.copy() if self.dtype == "uint8" else (crop - np.float32(127)) / np.float32(58)


def uint8() -> Crops:
    return Crops("uint8")


def float32() -> Crops:
    return Crops("float32")


def uint8_ready() -> Crops:
    return Crops("uint8-ready")


def float32_ready() -> Crops:
    return Crops("float32-ready")


def contestant(way: str, kind: str, feeders: int) -> None:
    """Takes minibatches when asked."""
    from distrain.dataset import concat_examples
    from distrain.iterators import MultiprocessIterator

    next_turn = serve(ITERATIONS)
    ours = {"n_processes": feeders} if way == "shared" else {"n_processes": 0, "feeders": "tcp://127.0.0.1:0"}
    iterator = MultiprocessIterator(Crops(kind), BATCH, seed=1, **ours)
    if way == "tcp":
        command = [sys.executable, "-m", "distrain.iterators.feed.remote", "--connect", str(iterator.feeders_address)]
        target = f"benchmarks.feed_remote:{kind.replace('-', '_')}"
        subprocess.Popen(
            [*command, "-n", str(feeders), target],
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM)),
        )
    while True:
        next_turn()
        iterator.reset()  # what has been read ahead before a turn is no merit of the turn
        for _ in range(ITERATIONS):
            concat_examples(next(iterator))


def wire_rate(nbytes: int, count: int = 200) -> float:
    """Megabytes per second through a socket with CURVE, in frames of so many bytes."""
    from distrain import wire

    server, client = wire.new_keys(), wire.new_keys()
    context = wire.new_context()
    authenticator = wire.Authenticator(context, [wire.raw_key(client.public)])
    hub = wire.hub(context)
    address = wire.listen_on_tcp(hub, "tcp://127.0.0.1:0", server.secret, server.public, "bench")
    pid = os.fork()
    if pid == 0:
        line = wire.spoke(wire.new_context(), b"peer", 8)
        wire.connect_by_tcp(line, address, client.secret, client.public, server.public)
        for _ in range(count):
            line.send(bytes(nbytes))
        time.sleep(60)
        os._exit(0)
    while not authenticator.answer():
        authenticator.socket.poll(1000)
    hub.recv_multipart(copy=False)
    start = time.perf_counter()
    for _ in range(count - 1):
        hub.recv_multipart(copy=False)
    seconds = time.perf_counter() - start
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    context.destroy(linger=0)
    return nbytes * (count - 1) / seconds / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--feeders", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--contestant", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        contestant(*options.contestant, options.feeders)
    for nbytes in (1 << 18, 1 << 20, 1 << 22):
        print(f"wire with CURVE, frames of {nbytes >> 10:5} KiB: {wire_rate(nbytes):6.0f} MB/s", flush=True)
    with tempfile.TemporaryDirectory() as keys:
        os.chmod(keys, 0o700)
        os.environ["DISTRAIN_KEYS"] = os.path.join(keys, "keys")
        for kind in KINDS:
            measure(kind, options.feeders, options.rounds)


def measure(kind: str, feeders: int, rounds: int) -> None:
    """Prints the rates for one kind of images."""
    common = ["-m", "benchmarks.feed_remote", "--feeders", str(feeders), "--contestant"]
    results = take_turns({way: [*common, way, kind] for way in ("shared", "tcp")}, 1, rounds)
    nbytes = 224 * 224 * 3 * np.dtype(kind.partition("-")[0]).itemsize
    for way, result in results.items():
        rate = BATCH / result.median
        print(f"{kind:14} {way:7} {rate:8.0f} images/s {rate * nbytes / 1e6:7.0f} MB/s", flush=True)
    print(f"{kind:14} tcp takes {results['tcp'].median / results['shared'].median:.2f} x as long")


if __name__ == "__main__":
    main()
