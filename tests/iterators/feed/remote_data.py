"""Datasets that the tests of remote feeders read in this process, and `distrain feed` in others."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import numpy as np


class Noisy:
    """Augments with the legacy generators, and takes its time."""

    def __init__(self, length: int = 150, pause: float = 0.0) -> None:
        self.length, self.pause = length, pause

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        if self.pause:
            time.sleep(self.pause)
        return np.random.rand(3, 4).astype(np.float32) + i, np.int32(i), random.random()


class Table:
    """Is read by column."""

    def __init__(self) -> None:
        self.x = np.random.default_rng(1).random((150, 5))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        return self.x[i], i

    def columns_at(self, indices: Any) -> Any:
        return self.x[indices], np.asarray(indices)


class Ragged:
    """No two examples fit together."""

    def __len__(self) -> int:
        return 150

    def __getitem__(self, i: int) -> Any:
        return {"x": np.arange(i % 7, dtype=np.int16), "name": f"n{i}", "more": (i, None)}


class Broken(Noisy):
    """One sample cannot be read."""

    def __getitem__(self, i: int) -> Any:
        if i == 40:
            raise ValueError(f"sample {i} is broken")
        return super().__getitem__(i)


class Hanging(Noisy):
    """Sample 40 hangs for whoever reads it first."""

    def __getitem__(self, i: int) -> Any:
        if i == 40 and "HANG" in os.environ:
            try:
                os.unlink(os.environ["HANG"])
                time.sleep(4)
            except FileNotFoundError:
                pass
        return super().__getitem__(i)


class Deadly(Noisy):
    """Sample 40 ends every feeder that reads it."""

    def __getitem__(self, i: int) -> Any:
        if i == 40 and "DEADLY" in os.environ:
            os._exit(7)
        return super().__getitem__(i)


def pad(batch: Any, device: Any = None) -> Any:
    width = max(len(example["x"]) for example in batch)
    x = np.zeros((len(batch), width), np.int16)
    for row, example in enumerate(batch):
        x[row, : len(example["x"])] = example["x"]
    return x, [example["name"] for example in batch]


noisy, table, ragged, broken = Noisy(), Table(), Ragged(), Broken()
slow = Noisy(pause=0.004)
shorter = Noisy(149)
NOT_ONE = 5


def made() -> Noisy:
    return Noisy()
