"""What the exchange of gradients costs on two ranks, beside bare mpi4py.

    python -m benchmarks.exchange

Three figures, each with its contestants taking turns in the same processes (one BLAS thread each):

- the sum of one flat array, 1 KiB to 256 MiB: `comm.allreduce(x, out=x)` (with its comparison) and the channel that
  gradients take, beside `Allreduce` of mpi4py in place;
- a step's exchange of the gradients of the MLP 784-50-50-10, beside `Allreduce` of as many bytes;
- a whole step of that MLP, and of 784-1000-1000-10, batch 50 a rank, Adam: StandardUpdater and SerialIterator beside a
  loop in bare NumPy and mpi4py, and beside PyTorch's DistributedDataParallel (gloo) with a DataLoader, if PyTorch is
  installed; in reproducible mode too, and with the optimizer's state spread over the ranks (`shard_state`).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks import bare_numpy
from benchmarks.turns import thread_limits, verdict

SIZES = [2**10, 2**14, 2**18, 2**22, 2**24, 2**26, 2**28]  # bytes
BANDWIDTH, LATENCY_S = 0.95, 15e-6  # at least; at most above the bare call
EXCHANGE_S = 60e-6  # at most above the bare call
STEP = 1.15  # times the bare loop
DDP = {50: 2.0, 1000: 1.3}  # times the samples a second of PyTorch's
BATCH = 100  # of the job
TURN = {50: 200, 1000: 20}


def in_turns(calls: dict[str, Callable[[], object]], barrier: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median seconds of each call; they take turns, and all ranks begin together."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):
        for name, call in calls.items():
            barrier()
            start = time.perf_counter()
            call()
            if turn > 1:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(measured) for name, measured in seconds.items()}


def many(call: Callable[[], object], times: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(times):
            call()

    return repeated


def sums() -> None:
    from mpi4py import MPI

    from distrain import comm

    world = comm.world()
    bare = MPI.COMM_WORLD.Dup()
    for size in SIZES:
        x = np.zeros(size // 4, np.float32)
        times = max(1, 2**22 // size // 16)
        calls = {
            "bare": many(lambda x=x: bare.Allreduce(MPI.IN_PLACE, x), times),
            "channel": many(lambda x=x: world.channel.allreduce(x), times),
            "allreduce": many(lambda x=x: world.allreduce(x, out=x), times),
        }
        taken = {k: s / times for k, s in in_turns(calls, bare.Barrier, 11 if size > 2**26 else 41).items()}
        for name in ("channel", "allreduce"):
            more = taken[name] - taken["bare"]
            ratio = taken["bare"] / taken[name]
            missed = "" if ratio >= BANDWIDTH or more <= LATENCY_S else "  MISSED"
            world.print(
                f"{size / 1024:9.0f} KiB  bare {taken['bare'] * 1e6:9.1f} us  {name:9} {taken[name] * 1e6:9.1f} us  "
                f"+{more * 1e6:7.1f} us  {ratio:.2f} of the bandwidth{missed}"
            )


def one_turn(train: Callable[[Callable[[], None]], None]) -> Callable[[], None]:
    """A call that lets an endless training work for one turn, in a thread of its own."""
    go, done = threading.Semaphore(0), threading.Semaphore(0)

    def next_turn() -> None:
        done.release()
        go.acquire()

    def call() -> None:
        go.release()
        done.acquire()

    threading.Thread(target=train, args=(next_turn,), daemon=True).start()
    done.acquire()
    return call


def mlp(units: int):
    import distrain
    import distrain.functions as F
    import distrain.links as L

    layers = [L.Linear(784, units), F.relu, L.Linear(units, units), F.relu, L.Linear(units, 10)]
    return distrain.optimizers.Adam().setup(L.Classifier(distrain.Sequential(*layers)))


def exchanges() -> None:
    from mpi4py import MPI

    from distrain import comm

    world = comm.world()
    bare = MPI.COMM_WORLD.Dup()
    optimizer = mlp(50)
    x, t = np.zeros((50, 784), np.float32), np.zeros(50, np.int32)
    for _ in range(3):
        optimizer.update(optimizer.target, x, t)
    exchange = optimizer._exchange
    flat = np.zeros_like(optimizer._groups[0].grad)
    loss = optimizer.target(x, t)

    def ours() -> None:
        exchange.start(loss)
        exchange.finish(1.0)

    calls = {"bare": many(lambda: bare.Allreduce(MPI.IN_PLACE, flat), 50), "ours": many(ours, 50)}
    taken = {name: seconds / 50 for name, seconds in in_turns(calls, bare.Barrier, 41).items()}
    more = taken["ours"] - taken["bare"]
    world.print(
        f"50 units: bare {taken['bare'] * 1e6:.1f} us, exchange {taken['ours'] * 1e6:.1f} us, "
        f"+{more * 1e6:.1f} us <= {EXCHANGE_S * 1e6:.0f}{'' if more <= EXCHANGE_S else '  MISSED'}"
    )


def ddp(units: int, x: np.ndarray, t: np.ndarray, folder: str) -> Iterator[None]:
    """Steps of PyTorch, one a `next`."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    from torch.utils.data.distributed import DistributedSampler

    from distrain import comm

    world = comm.world()
    if not dist.is_initialized():
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=world.rank, world_size=world.size)
    dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(t.astype(np.int64)))
    loader = DataLoader(dataset, BATCH // world.size, sampler=DistributedSampler(dataset))
    layers = [nn.Linear(784, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 10)]
    model = nn.parallel.DistributedDataParallel(nn.Sequential(*layers))
    optimizer = torch.optim.Adam(model.parameters())
    while True:
        for xb, tb in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(xb), tb)
            loss.backward()
            optimizer.step()
            yield


def steps(units: int, folder: str) -> None:
    from mpi4py import MPI

    import distrain
    from distrain import reproducible, training

    world = distrain.comm.world()
    bare = MPI.COMM_WORLD.Dup()
    rng = np.random.default_rng(0)
    x = rng.random((20_000, 784), np.float32)
    t = (x[:, :10]).argmax(axis=1).astype(np.int32)
    turn = TURN[units]

    def updater():
        data = distrain.datasets.TupleDataset(x, t)
        return training.StandardUpdater(distrain.iterators.SerialIterator(data, BATCH), mlp(units))

    plain, spread = updater(), updater()
    spread.get_optimizer("main").shard_state()
    reproducible.set_reproducible()
    sharded = updater()
    reproducible.set_reproducible(False)

    def in_shards() -> None:
        reproducible.set_reproducible()
        many(sharded.update, turn)()
        reproducible.set_reproducible(False)

    def exchange(g: np.ndarray) -> None:
        bare.Allreduce(MPI.IN_PLACE, g)
        g *= np.float32(1 / world.size)

    mine = slice(world.rank * len(x) // world.size, (world.rank + 1) * len(x) // world.size)

    def by_hand(next_turn: Callable[[], None]) -> None:
        bare_numpy.train(x[mine], t[mine], units, BATCH // world.size, turn, next_turn, exchange)

    calls = {"bare": one_turn(by_hand), "ours": many(plain.update, turn), "reproducible": in_shards}
    calls["shard_state"] = many(spread.update, turn)
    if importlib.util.find_spec("torch"):
        torch_steps = ddp(units, x, t, folder)
        calls["DDP"] = many(lambda: next(torch_steps), turn)
    taken = {name: s / turn for name, s in in_turns(calls, bare.Barrier, 11).items()}
    ratio = taken["ours"] / taken["bare"]
    world.print(
        f"{units:4} units: bare {taken['bare'] * 1e3:.3f} ms  distrain {taken['ours'] * 1e3:.3f} ms "
        f"{verdict(ratio, STEP)}  reproducible {taken['reproducible'] * 1e3:.3f} ms "
        f"({taken['reproducible'] / taken['ours']:.2f} of plain); exchange in buckets of "
        f"{plain.get_optimizer('main')._plan.bucket_bytes} bytes"
    )
    nbytes = [sum(s.nbytes for g in u.get_optimizer("main")._groups for s in g.state.values()) for u in (plain, spread)]
    world.print(
        f"           shard_state {taken['shard_state'] * 1e3:.3f} ms ({taken['shard_state'] / taken['ours']:.2f} of "
        f"plain), state of {nbytes[1]:,} bytes a rank instead of {nbytes[0]:,}"
    )
    if "DDP" in taken:
        gain = taken["DDP"] / taken["ours"]
        world.print(
            f"           DDP {taken['DDP'] * 1e3:.3f} ms, {gain:.2f} x distrain's "
            f">= {DDP[units]}{'' if gain >= DDP[units] else '  MISSED'}"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What the exchange of gradients costs on two ranks.")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.work:
        exchanges()
        from distrain import comm

        with tempfile.TemporaryDirectory() as folder:
            folder = comm.world().bcast_obj(folder)
            for units in TURN:
                steps(units, folder)
            comm.world().barrier()
        sums()
        return
    command = [sys.executable, "-m", "distrain_launch", "run", "-n", "2", __file__, "--work"]
    paths = [os.getcwd(), os.path.join(os.getcwd(), "launch"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **thread_limits(1), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run(command, env=environment, timeout=300, check=True)


if __name__ == "__main__":
    main()
