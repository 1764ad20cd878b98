"""Rate of MultiprocessIterator, beside PyTorch's DataLoader and beside reading in the main process.

    python -m benchmarks.feed [--rounds 12] [--only crops rows …]

The same dataset objects go through SerialIterator, MultiprocessIterator with 1 and 2 feeders, and a DataLoader with 2
workers whose batches become tensors; each in a process of its own, in turn, with one BLAS thread. Ours are taken with
`next()` and `concat_examples`. Nothing is done with a batch. Then: what a batch that is ready costs the consumer, the
time from the start to the first batch, the memory that a big dataset takes, and JPEG files beside decoding alone.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.turns import Result, serve, take_turns, thread_limits

CORES = 2
QUEUE = 32  # minibatches ahead where the cost of one that is ready is measured
OVERHEAD_LIMIT_S = 150e-6
START_LIMIT_S = 1.0
MEMORY_NBYTES = 10**9
MEMORY_LIMIT = 1.2e9  # bytes of rank, nursery and feeders together, less what they take without a dataset
JPEGS = 200


class Crops:
    """Random crops of 224 × 224 from 256 images of 256 × 256 × 3 bytes."""

    def __init__(self) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (256, 256, 256, 3), np.uint8)

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, i: int) -> Any:
        y, x = np.random.randint(33, size=2)
        return self.images[i % 256, y : y + 224, x : x + 224], i % 1000


class NormalisedCrops(Crops):
    """The same as `(224, 224, 3)` float32 of mean 0 and deviation 1."""

    def __getitem__(self, i: int) -> Any:
        image, label = super().__getitem__(i)
        x = image.astype(np.float32)
        x -= 127.5
        x *= 1 / 73.9
        return x, label


class ChannelsFirst(NormalisedCrops):
    """The same as `(3, 224, 224)`, in memory too: the dataset's own work counts for most of the time."""

    def __getitem__(self, i: int) -> Any:
        x, label = super().__getitem__(i)
        return np.ascontiguousarray(x.transpose(2, 0, 1)), label


class Rows:
    """60,000 rows like MNIST's, read one by one."""

    def __init__(self) -> None:
        self.x = np.random.default_rng(0).random((60_000, 784), np.float32)
        self.t = np.arange(60_000) % 10

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        return self.x[i], self.t[i]


class Jpegs:
    """JPEG files, decoded with Pillow to `(375, 500, 3)` uint8; each file stands for many samples."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(Path(folder).glob("*.jpg"))

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, i: int) -> Any:
        from PIL import Image

        with Image.open(self.paths[i % len(self.paths)]) as image:
            return np.asarray(image)


def columns() -> Any:
    """`Rows` as a TupleDataset, which an iterator reads by column."""
    from distrain.datasets import TupleDataset

    rows = Rows()
    return TupleDataset(rows.x, rows.t)


@dataclass(frozen=True)
class Case:
    """A dataset, its batch size, the batches of a turn, and how many times PyTorch's rate is asked for."""

    make: Callable[..., Any]
    batch: int
    turn: int
    limit: float


CASES = {
    "crops": Case(Crops, 64, 100, 2.0),
    "float32": Case(NormalisedCrops, 64, 40, 2.0),
    "channels": Case(ChannelsFirst, 64, 40, 2.0),
    "rows": Case(Rows, 100, 1000, 3.0),
    "columns": Case(columns, 100, 1000, 3.0),
    "jpeg": Case(Jpegs, 16, 25, 1.0),
}


def ours(dataset: Any, batch: int, feeders: int, ahead: int = 1) -> Iterator[Any]:
    from distrain.dataset import concat_examples
    from distrain.iterators import MultiprocessIterator, SerialIterator

    iterator: Any = SerialIterator(dataset, batch)
    if feeders:
        iterator = MultiprocessIterator(dataset, batch, n_processes=feeders, n_prefetch=ahead)
    return map(concat_examples, iterator)


def torch(dataset: Any, batch: int, workers: int, ahead: int = 4) -> Iterator[Any]:
    from torch.utils.data import DataLoader

    loader = DataLoader(
        dataset,
        batch,
        shuffle=True,
        num_workers=workers,
        prefetch_factor=ahead // workers,
        drop_last=True,
        persistent_workers=True,
    )
    while True:
        yield from loader


def decoding(dataset: Any, batch: int, processes: int) -> Iterator[Any]:
    """The samples of a batch read in this process, or of several batches in as many processes; nothing collated.

    Every process reads `batch` samples in the time that counts as `processes` batches.
    """
    parent, child = os.pipe(), os.pipe()
    if processes > 1 and not os.fork():
        os.close(parent[1])
        while os.read(parent[0], 1):
            _read(dataset, batch)
            os.write(child[1], b".")
        os._exit(0)
    while True:
        if processes > 1:
            os.write(parent[1], b".")
        yield _read(dataset, batch)
        if processes > 1:
            os.read(child[0], 1)
            yield None


def _read(dataset: Any, count: int) -> None:
    for i in range(count):
        dataset[i]


READERS: dict[str, Callable[..., Iterator[Any]]] = {
    "main process": functools.partial(ours, feeders=0),
    "1 feeder": functools.partial(ours, feeders=1),
    "2 feeders": functools.partial(ours, feeders=2),
    "PyTorch, 2 workers": functools.partial(torch, workers=2),
    "decoding, 1 process": functools.partial(decoding, processes=1),
    "decoding, 2 processes": functools.partial(decoding, processes=2),
}


def run(case: Case, dataset: Any, reader: str) -> None:
    """A contestant: reads a turn's batches whenever it is asked to."""
    batches = READERS[reader](dataset, case.batch)
    next(batches)
    next_turn = serve(case.turn)
    while True:
        next_turn()
        for _ in range(case.turn):
            next(batches)


def overhead(dataset: Any, reader: str) -> list[float]:
    """Seconds that a batch costs the consumer when it is ready, medians: 10 ms after the last one, and right after it.

    The second number is the cost of the code; the first one has cold caches and sleeping peers too.
    """
    spaced, in_a_row = [], []
    batches = READERS[reader](dataset, 100, ahead=QUEUE)
    next(batches)
    for _ in range(8):
        time.sleep(0.4)  # the queue is filled meanwhile
        for _ in range(QUEUE * 3 // 4):
            start = time.perf_counter()
            next(batches)
            in_a_row.append(time.perf_counter() - start)
        for _ in range(QUEUE):
            time.sleep(0.01)
            start = time.perf_counter()
            next(batches)
            spaced.append(time.perf_counter() - start)
    return [statistics.median(spaced[QUEUE:]), statistics.median(in_a_row[QUEUE:])]


def start(reader: str) -> float:
    """Seconds from the dataset to the first batch; imports are done."""
    import distrain.iterators.feed.feed
    import distrain.iterators.feed.server

    if reader.startswith("PyTorch"):
        import torch.utils.data  # noqa: F401
    assert distrain.iterators.feed.feed
    dataset = Crops()
    began = time.perf_counter()
    next(READERS[reader](dataset, 64))
    return time.perf_counter() - began


def memory(nbytes: int) -> dict[str, int]:
    """Bytes (PSS) of this process and of the others, with 8 feeders, after an epoch of a dataset of so many bytes."""
    from distrain.iterators import MultiprocessIterator

    rows = max(256, nbytes // 4096)
    iterator = MultiprocessIterator(np.full((rows, 1024), 1.0, np.float32), 256, repeat=False, n_processes=8)
    for batch in iterator:
        del batch
    parents = {int(p.parent.name): _parent(p) for p in Path("/proc").glob("[0-9]*/stat")}
    family = [os.getpid()]
    for pid in family:
        family += [child for child, parent in parents.items() if parent == pid]
    sizes = [_pss(pid) for pid in family]
    iterator.finalize()
    return {"rank": sizes[0], "others": sum(sizes[1:])}


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def ask(*arguments: str) -> Any:
    """What a fresh process answers."""
    command = [sys.executable, "-m", "benchmarks.feed", *arguments]
    environment = {**os.environ, **thread_limits(1)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def at_least(ratio: float, limit: float) -> str:
    return f"{ratio:6.2f} {'>=' if ratio >= limit else '< '} {limit:.2f}{'' if ratio >= limit else '  MISSED'}"


def at_most(value: float, limit: float, unit: str) -> str:
    return f"{value:8.3f} {'<=' if value <= limit else '> '} {limit:.3f} {unit}{'' if value <= limit else '  MISSED'}"


def compare(name: str, readers: list[str], rounds: int, folder: str) -> dict[str, Result]:
    case = CASES[name]
    commands = {r: ["-m", "benchmarks.feed", "--serve", name, "--reader", r, "--folder", folder] for r in readers}
    results = take_turns(commands, 1, rounds)
    print(f"\n{name}: {(case.make.__doc__ or '').splitlines()[0]} Batches of {case.batch}")
    for reader, result in results.items():
        print(f"  {reader:24}{case.batch / result.median:12,.0f} samples/s")
    return results


def compare_rates(name: str, rounds: int, readers: list[str]) -> None:
    results = compare(name, readers, rounds, "")
    seconds = {reader: result.median for reader, result in results.items()}
    if "PyTorch, 2 workers" in seconds:
        ratio = seconds["PyTorch, 2 workers"] / seconds["2 feeders"]
        print(f"  2 feeders / PyTorch     {at_least(ratio, CASES[name].limit)}")
    if name in ("crops", "float32", "channels"):
        print(f"  1 feeder / main process {at_least(seconds['main process'] / seconds['1 feeder'], 0.75)}")
        print(f"  2 feeders / main process{at_least(seconds['main process'] / seconds['2 feeders'], 1.3)}", flush=True)


def compare_jpegs(rounds: int) -> None:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for i in range(JPEGS):  # coarse noise, enlarged: about as many bytes a pixel as a photograph
            image = Image.fromarray(rng.integers(0, 256, (47, 63, 3), np.uint8))
            image.resize((500, 375), Image.Resampling.BICUBIC).save(f"{folder}/{i:03}.jpg", quality=90)
        readers = ["decoding, 1 process", "decoding, 2 processes", "1 feeder", "2 feeders"]
        results = compare("jpeg", readers, rounds, folder)
    seconds = {reader: result.median for reader, result in results.items()}
    alone = seconds["decoding, 1 process"] / CORES
    print(f"  2 feeders / {CORES} x decoding       {at_least(alone / seconds['2 feeders'], 0.9)}")
    machine = alone / seconds["decoding, 2 processes"]
    print(f"  2 processes / {CORES} x decoding     {machine:7.2f}, which is what the machine gives", flush=True)


def compare_the_rest(readers: list[str]) -> None:
    print("\na batch that is ready, 100 rows: the consumer's time, 10 ms after the last one and right after it")
    for reader in readers:
        times = [
            1e6 * statistics.median(times) for times in zip(*[ask("--overhead", reader) for _ in range(3)], strict=True)
        ]
        limits = [at_most(us, 1e6 * OVERHEAD_LIMIT_S, "µs") if "feeder" in reader else f"{us:8.3f} µs" for us in times]
        print(f"  {reader:24}{'   '.join(limits)}")
    print("\nfrom the dataset of the crops to the first batch of 64")
    for reader in readers:
        taken = statistics.median(ask("--start", reader) for _ in range(3))
        print(f"  {reader:24}{at_most(taken, START_LIMIT_S, 's') if 'feeder' in reader else f'{taken:8.3f} s'}")
    empty, full = ask("--memory", "0"), ask("--memory", str(MEMORY_NBYTES))
    print(f"\nmemory of a dataset of {MEMORY_NBYTES / 1e9:.0f} GB, rank and 8 feeders")
    for part in empty:
        print(f"  {part:24}{full[part] / 1e9:8.3f} GB, {empty[part] / 1e9:.3f} without a dataset")
    print(f"  together                {at_most(sum(full.values()) / 1e9, MEMORY_LIMIT / 1e9, 'GB')}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Rate of MultiprocessIterator, beside PyTorch's DataLoader.")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each contestant (default: 12)")
    parser.add_argument("--only", nargs="+", choices=[*CASES, "rest"], default=[*CASES, "rest"], help="what to measure")
    for option in ("--serve", "--reader", "--folder", "--overhead", "--start", "--memory"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.serve:
        case = CASES[args.serve]
        run(case, case.make(args.folder) if args.folder else case.make(), args.reader)
    elif args.overhead:
        print(json.dumps(overhead(Rows(), args.overhead)))
    elif args.start:
        print(json.dumps(start(args.start)))
    elif args.memory:
        print(json.dumps(memory(int(args.memory))))
    else:
        readers = ["main process", "1 feeder", "2 feeders"]
        if importlib.util.find_spec("torch"):
            readers.append("PyTorch, 2 workers")
        else:
            print("PyTorch is not installed and left out; to install it: pip install -e '.[bench]'")
        for name in args.only:
            if name == "jpeg":
                compare_jpegs(args.rounds)
            elif name == "rest":
                compare_the_rest(readers)
            else:
                compare_rates(name, args.rounds, readers)


if __name__ == "__main__":
    main()
