"""How fast a dataset is read, and how many feeders it needs, measured on the dataset itself.

    python -m distrain.iterators.profile train.py:train --batch-size 128 --step 0.2

The dataset is a name in a module (`package.module:name`) or in a script (`train.py:name`), or a function or class there
that gives it when it is called. The script is run up to its `if __name__ == "__main__"`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distrain.comm import cores as rank_cores
from distrain.comm import local
from distrain.dataset import concat_examples
from distrain.dataset.columns import columns_at
from distrain.errors import ArgumentError, DatasetError, DistrainError
from distrain.iterators.arguments import count
from distrain.iterators.arguments import seconds as checked_seconds
from distrain.iterators.multiprocess import MultiprocessIterator
from distrain.iterators.reading import Reader

_SLOWEST = 5
_ENOUGH = 0.95  # of the best rate: more feeders than that give are not worth their memory
_MODULE = "__distrain_profile__"  # of a script; classes in it travel by value


@dataclass(frozen=True)
class Reading:
    """What reading in one process, without feeders, takes.

    Attributes:
        read_s: seconds a sample.
        collate_s: seconds a sample to make arrays of a minibatch; None if the examples do not fit together.
        nbytes: of a sample, as it stands in the minibatch; 0 if unknown.
        by_column: whether the dataset reads all samples of a minibatch in one step.
        slowest: the slowest samples, `(index, seconds)`; empty if they are read by column.
        problem: why the examples do not fit together; empty if they do.
    """

    read_s: float
    collate_s: float | None
    nbytes: float
    by_column: bool
    slowest: list[tuple[int, float]]
    problem: str = ""

    @property
    def rate(self) -> float:
        """Samples a second."""
        return 1 / (self.read_s + (self.collate_s or 0.0))


@dataclass(frozen=True)
class Rate:
    """What some feeders have read: samples a second, and the seconds until the first minibatch was there."""

    feeders: int
    rate: float
    first_s: float


@dataclass(frozen=True)
class Profile:
    """What was measured.

    Attributes:
        batch_size: samples of a minibatch of this rank.
        cores: of this rank.
        reading: in one process, without feeders.
        rates: with feeders, fewest first.
    """

    batch_size: int
    cores: int
    reading: Reading
    rates: list[Rate]

    @property
    def saturating(self) -> Rate:
        """The fewest feeders that reach the best rate, or almost."""
        best = max(one.rate for one in self.rates)
        return next(one for one in self.rates if one.rate >= _ENOUGH * best)

    def needed(self, step_s: float) -> int | None:
        """The fewest feeders that keep a training step of so many seconds fed; None if those measured are too few."""
        return next((one.feeders for one in self.rates if one.rate * step_s >= self.batch_size), None)


def profile(
    dataset: Any,
    batch_size: int = 64,
    feeders: Iterable[int] | None = None,
    seconds: float = 3.0,
    converter: Callable[..., Any] | None = None,
) -> Profile:
    """Measures how fast a dataset is read.

    Args:
        dataset: as for `MultiprocessIterator`.
        batch_size: samples of a minibatch of this rank.
        feeders: how many to try; None: 1, 2, 4 … up to the cores of this rank.
        seconds: to measure each number of feeders, and reading without them.
        converter: makes minibatches, `converter(examples, device)`, in the feeders; None is `concat_examples`.

    Raises:
        ArgumentError: an argument that cannot work.
        DatasetError: the dataset is empty.
        TransferError: the dataset cannot travel to other processes.
    """
    cores = rank_cores()
    batch_size = count("batch_size", batch_size, 1)
    duration = checked_seconds("seconds", seconds) or 1.0
    numbers = _up_to(cores) if feeders is None else sorted({count("feeders", one, 1) for one in feeders})
    if not len(dataset):
        raise DatasetError(f"the dataset ({type(dataset).__name__}) is empty: there is nothing to read")
    reading = _read_here(dataset, batch_size, duration, converter)
    return Profile(
        batch_size, cores, reading, [_read_with(n, dataset, batch_size, duration, converter) for n in numbers]
    )


def _up_to(cores: int) -> list[int]:
    return [*(1 << i for i in range((cores - 1).bit_length())), cores]


def _read_here(dataset: Any, batch_size: int, duration: float, converter: Callable[..., Any] | None) -> Reading:
    order = np.random.default_rng(0).permutation(len(dataset))
    by_column = converter is None and columns_at(dataset, order[:1]) is not None
    reader = Reader(dataset, 0)
    collate = concat_examples if converter is None else converter
    slowest: list[tuple[int, float]] = []
    read_s = collate_s = 0.0
    samples = nbytes = 0
    problem = ""
    end = time.perf_counter() + duration
    while samples < len(order) and (not samples or time.perf_counter() < end):
        indices = order[samples : samples + batch_size]
        start = time.perf_counter()
        if by_column:
            arrays = columns_at(dataset, indices)
            read_s += time.perf_counter() - start
        else:
            examples, times = _timed(reader, indices.tolist())
            read_s += sum(times)
            slowest = sorted([*slowest, *zip(indices.tolist(), times, strict=True)], key=lambda one: -one[1])[:_SLOWEST]
            start = time.perf_counter()
            try:
                arrays = collate(examples, None)
            except DatasetError as error:
                arrays, problem = None, str(error)
            collate_s += time.perf_counter() - start
        nbytes += _nbytes(arrays)
        samples += len(indices)
    size = nbytes / samples
    return Reading(read_s / samples, None if problem else collate_s / samples, size, by_column, slowest, problem)


def _timed(reader: Reader, indices: list[int]) -> tuple[list[Any], list[float]]:
    """Examples, and the seconds that each took."""
    began = [0.0] * (len(indices) + 1)

    def before(row: int) -> None:
        began[row] = time.perf_counter()

    examples = reader.examples([(0, indices)], before)
    began[-1] = time.perf_counter()
    return examples, np.diff(began).tolist()


def _nbytes(arrays: Any) -> int:
    if isinstance(arrays, (tuple, list)):
        return sum(map(_nbytes, arrays))
    if isinstance(arrays, dict):
        return sum(map(_nbytes, arrays.values()))
    return int(getattr(arrays, "nbytes", 0))


def _read_with(
    feeders: int, dataset: Any, batch_size: int, duration: float, converter: Callable[..., Any] | None
) -> Rate:
    start = time.perf_counter()
    iterator = MultiprocessIterator(dataset, batch_size, n_processes=feeders, comm=local(), converter=converter)
    try:
        next(iterator)
        first_s = time.perf_counter() - start
        for _ in range(2 * feeders):  # what was read ahead while they all started
            next(iterator)
        began = now = time.perf_counter()
        batches = 0
        while now < began + duration:
            next(iterator)
            batches += 1
            now = time.perf_counter()
        return Rate(feeders, batches * batch_size / (now - began), first_s)
    finally:
        iterator.finalize()


def load(target: str) -> Any:
    """The dataset that a target names: `module:name` or `script.py:name`; names may have dots.

    Raises:
        ArgumentError: there is no such file, module or name, or it is no dataset and gives none.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise ArgumentError(f"{target!r} names no dataset; write module:name or script.py:name")
    found: Any = _script(Path(place)) if place.endswith(".py") else _module(place)
    for part in name.split("."):
        if not hasattr(found, part):
            names = ", ".join(sorted(one for one in vars(found) if not one.startswith("_"))) or "nothing"
            raise ArgumentError(f"{place} has no {part!r}; it has {names}")
        found = getattr(found, part)
    if callable(found) and (isinstance(found, type) or not hasattr(found, "__getitem__")):
        found = found()
    if not hasattr(found, "__getitem__") or not hasattr(found, "__len__"):
        raise ArgumentError(f"{target} is a {type(found).__name__}, and no dataset: it lacks __getitem__ or __len__")
    return found


def _module(name: str) -> Any:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module imports
        raise ArgumentError(f"there is no module {name!r}; write script.py:name for a file") from error


def _script(path: Path) -> Any:
    if not path.is_file():
        raise ArgumentError(f"there is no file {path}")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[_MODULE]  # nobody else could import it
    return module


def facts(found: Profile) -> list[str]:
    """What reading in one process has shown, in words."""
    one = found.reading
    lines = [f"a sample: {_duration(one.read_s)} to read" + (", by column" if one.by_column else "")]
    if not one.by_column and one.collate_s is not None:
        lines[0] += f", {_duration(one.collate_s)} to collate"
    if one.nbytes:
        lines[0] += f", {one.nbytes:,.0f} bytes"
    if one.problem:
        lines.append(f"the examples do not make arrays: {one.problem} Give converter=… if they are to be padded.")
    if one.slowest:
        worst = ", ".join(f"{index} ({_duration(taken)})" for index, taken in one.slowest)
        lines.append(f"slowest samples: {worst}")
    return lines


def advice(found: Profile, step_s: float | None) -> list[str]:
    """How many feeders, in words."""
    best = found.saturating
    more = "more of them read no faster"
    if best.feeders == found.rates[-1].feeders:
        more = "it might still rise with more"
        if best.feeders >= found.cores:
            more = f"this rank has no more than {_counted(found.cores, 'core')}"
    lines = [f"{_counted(best.feeders, 'feeder')} reach {best.rate:,.0f} samples/s; {more}"]
    if step_s is None:
        return lines
    wanted = found.batch_size / step_s
    need = found.needed(step_s)
    step = f"a step of {_duration(step_s)} with {found.batch_size} samples needs {wanted:,.0f} samples/s"
    if need is not None:
        lines.append(f"{step}: n_processes={need}")
    else:
        estimate = math.ceil(wanted / (found.rates[0].rate / found.rates[0].feeders))
        lines.append(
            f"{step}, more than {_counted(best.feeders, 'feeder')} read here: the training will wait for data. About "
            f"{estimate} would be needed, with as many cores; or make the samples cheaper to read"
        )
    return lines


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{1e6 * value:.3g} µs"


def show(found: Profile, step_s: float | None = None) -> None:
    """Prints what was measured: as a table on a terminal, as plain lines elsewhere."""
    rows = [("none", f"{found.reading.rate:,.0f}", "")]
    rows += [(str(one.feeders), f"{one.rate:,.0f}", _duration(one.first_s)) for one in found.rates]
    for line in facts(found):
        print(line)
    if sys.stdout.isatty():
        _print_table(rows)
    else:
        for feeders, rate, first in rows:
            print(f"feeders: {feeders}, {rate} samples/s" + (f", first minibatch after {first}" if first else ""))
    for line in advice(found, step_s):
        print(line)


def _print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("feeders", "samples/s", "first minibatch")
    for column in table.columns:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m distrain.iterators.profile",
        description="Measures how fast a dataset is read, and says how many feeders it needs.",
    )
    parser.add_argument("target", help="module:name or script.py:name of a dataset, or of a function that gives it")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="samples of a minibatch (default: 64)")
    parser.add_argument(
        "--step", type=float, metavar="SECONDS", help="a training step takes that long without its data"
    )
    parser.add_argument(
        "--feeders", type=int, nargs="+", metavar="N", help="to try (default: 1, 2, 4 … up to the cores)"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each number of feeders (default: 3)")
    args = parser.parse_args(arguments)
    try:
        step = checked_seconds("--step", args.step)
        show(profile(load(args.target), args.batch_size, args.feeders, args.seconds), step)
    except DistrainError as error:
        parser.exit(1, f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main()
