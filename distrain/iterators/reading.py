"""Reading samples one by one, each with the random numbers that belong to it.

Guarantees, for every iterator and in every process:

- What a sample draws from `distrain.rng.sample_rng()`, `np.random` and `random` is a function of the seed, the epoch
  and the index of the sample.
- The numbers that the rest of the program draws from `np.random` and `random` are not disturbed.
- An exception of the dataset names the sample. With `on_error="skip"` the next sample of the dataset takes the place of
  the broken one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from distrain import rng
from distrain.errors import ArgumentError, DatasetError
from distrain.iterators import seats

Run: TypeAlias = tuple[int, Sequence[int]]
"""Samples of one epoch, by index: `(epoch, indices)`."""

OnError: TypeAlias = Literal["raise", "skip"]

_SUBSTITUTES = 100  # broken samples in a row after which the dataset counts as broken


class SkippedSampleWarning(UserWarning):
    """A sample could not be read, and another one took its place."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A sample that could not be read, and the one that took its place."""

    epoch: int
    index: int
    substitute: int
    error: str


class Reader:
    """Reads samples of one dataset.

    Seating the legacy generators takes 12 µs a sample, and few datasets use them. So samples are read without it as
    long as a look at the generators afterwards shows that nothing was drawn; else they are read again, seated, and all
    later ones are seated at once.

    Args:
        dataset: anything with `__getitem__`.
        seed: of the samples' random numbers.
        on_error: "raise", or "skip" to read the next sample in place of one that raises.

    Attributes:
        seed: as given.
        skipped: samples that were skipped since this list was last emptied.
        draws: whether the dataset has been seen to use the legacy generators.

    Raises:
        ArgumentError: an unknown `on_error`.
    """

    def __init__(self, dataset: Any, seed: int, on_error: OnError = "raise") -> None:
        self.dataset = dataset
        self.skipped: list[Skipped] = []
        self.seed = seed
        self._skips = checked_on_error(on_error) == "skip"
        self.draws = False

    def examples(
        self,
        runs: Sequence[Run],
        before: Callable[[int], None] | None = None,
        kept: Callable[[int, Any], Any] | None = None,
    ) -> list[Any]:
        """The examples of some samples, in order.

        Args:
            runs: the samples, by epoch.
            before: called with the number of each sample within the runs, before it is read.
            kept: called with that number and the example; what it returns takes the example's place.

        Raises:
            Exception: what the dataset raises, with a note that names the sample.
        """
        if not self.draws:
            before_all = LegacyState()
            skipped = len(self.skipped)
            try:
                examples = self._examples(runs, before, kept, False)
                problem = None
            except Exception as error:
                problem = error
            if before_all.holds:
                if problem is not None:
                    raise problem
                return examples
            self.draws = True
            del self.skipped[skipped:]
            before_all.restore()
        with seats.kept():
            return self._examples(runs, before, kept, True)

    def unseated(self, runs: Sequence[Run], before: Callable[[int], None] | None = None) -> list[Any]:
        """As `examples`, for a caller that looks after the legacy generators itself. May run in several threads."""
        return self._examples(runs, before, None, False)

    def _examples(
        self,
        runs: Sequence[Run],
        before: Callable[[int], None] | None,
        kept: Callable[[int, Any], Any] | None,
        seated: bool,
    ) -> list[Any]:
        examples: list[Any] = []
        try:
            for epoch, indices in runs:
                for index in indices:
                    if before is not None:
                        before(len(examples))
                    example = self._example(epoch, index, seated)
                    examples.append(example if kept is None else kept(len(examples), example))
        finally:
            rng.at_sample(None)
        return examples

    def _example(self, epoch: int, index: int, seated: bool) -> Any:
        try:
            return self._read(epoch, index, seated)
        except Exception as error:
            if not self._skips:
                raise
            first = error
        for step in range(1, min(len(self.dataset), _SUBSTITUTES)):
            substitute = (index + step) % len(self.dataset)
            try:
                example = self._read(epoch, substitute, seated)
            except Exception:
                continue
            self.skipped.append(Skipped(epoch, index, substitute, f"{type(first).__name__}: {first}"))
            return example
        first.add_note(f"{_SUBSTITUTES} samples in a row cannot be read; on_error='skip' gives up")
        raise first

    def _read(self, epoch: int, index: int, seated: bool) -> Any:
        rng.at_sample((self.seed, epoch, index))
        if seated:
            seats.sit(self.seed, epoch, index)
        try:
            return self.dataset[index]
        except StopIteration as error:  # it would end the iteration, silently
            raise DatasetError(f"{_place(self.dataset, epoch, index)} raised StopIteration") from error
        except Exception as error:
            error.add_note(_place(self.dataset, epoch, index))
            raise


def checked_on_error(on_error: OnError) -> OnError:
    """Itself.

    Raises:
        ArgumentError: it is neither "raise" nor "skip".
    """
    if on_error not in ("raise", "skip"):
        raise ArgumentError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    return on_error


def _place(dataset: Any, epoch: int, index: int) -> str:
    return f"reading sample {index} of {type(dataset).__name__} (epoch {epoch})"


class LegacyState:
    """Where `np.random` and `random` stand."""

    def __init__(self) -> None:
        self._numpy = np.random.get_state(legacy=False)
        self._python = random.getstate()

    @property
    def holds(self) -> bool:
        """Whether they still stand there."""
        return random.getstate() == self._python and _same(np.random.get_state(legacy=False), self._numpy)

    def restore(self) -> None:
        """Puts them back there."""
        np.random.set_state(self._numpy)
        random.setstate(self._python)


def _same(state: Any, other: Any) -> bool:
    if isinstance(state, dict):
        return state.keys() == other.keys() and all(_same(state[key], other[key]) for key in state)
    return bool(np.array_equal(state, other))
