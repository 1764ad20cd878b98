"""Weighted means of reported values.

A summary is three sums in float64: of weight * value, of weight * value squared, and of the weights. They add up
over iterations and over ranks, so merging is exact: mean = x / n, variance = x2 / n - mean**2.

Values on a GPU are summed there, and brought to the host when somebody asks; adding one never waits for the GPU.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from distrain import backend
from distrain.errors import ArgumentError

Sums: TypeAlias = tuple[float, float, float]
"""Sum of weight * value, sum of weight * value**2, sum of weights."""

_FAST = frozenset((float, int, np.float32, np.float64))  # asking for the type is faster than isinstance
_HOST_NUMBERS = (float, int, np.floating, np.integer, np.bool_)


class Summary:
    """The weighted mean and standard deviation of a series of numbers."""

    __slots__ = ("_device", "_n", "_x", "_x2")

    def __init__(self) -> None:
        self._x = 0.0
        self._x2 = 0.0
        self._n = 0.0
        self._device: Any = None  # float64 array (2,): x and x2 of the values that live on a GPU

    def add(self, value: Any, weight: float = 1) -> None:
        """Adds a number.

        Args:
            value: number, or 0-dimensional NumPy or CuPy array.
            weight: how many samples it stands for, or their share. A value of weight 0 is ignored, be it NaN.
        """
        if weight == 0:
            return
        if backend.is_gpu_array(value):
            self._add_on_device(value, weight)
        else:
            value = float(value)
            weighted = weight * value
            self._x += weighted
            self._x2 += weighted * value
        self._n += weight

    def _add_on_device(self, value: Any, weight: float) -> None:
        xp = backend.get_array_module(value)
        with value.device:
            if self._device is None:
                self._device = xp.zeros(2, np.float64)
            weighted = xp.multiply(value, weight, dtype=np.float64)
            x, x2 = self._device[0, ...], self._device[1, ...]
            xp.add(x, weighted, out=x)
            xp.add(x2, weighted * value, out=x2)

    def sums(self) -> Sums:
        """The three sums, on the host; waits for the GPU if values live there."""
        if self._device is not None:
            x, x2 = backend.to_cpu(self._device).tolist()
            self._x, self._x2, self._device = self._x + x, self._x2 + x2, None
        return self._x, self._x2, self._n

    def merge(self, sums: Sums) -> None:
        """Adds what another summary, perhaps of another rank, has summed up."""
        x, x2, n = sums
        self._x, self._x2, self._n = self._x + x, self._x2 + x2, self._n + n

    def compute_mean(self) -> float:
        """The weighted mean; NaN if nothing was added."""
        x, _, n = self.sums()
        return x / n if n else math.nan

    def make_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation, of the population and not of a sample; NaN if nothing was added."""
        x, x2, n = self.sums()
        if not n:
            return math.nan, math.nan
        mean = x / n
        variance = x2 / n - mean * mean
        return mean, math.sqrt(variance) if variance > 0 else variance * 0  # rounding may go below 0; NaN stays

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the three sums."""
        x, x2, n = self.sums()
        self._x = serializer("_x", x)
        self._x2 = serializer("_x2", x2)
        self._n = serializer("_n", n)


def _scalar_weight(key: str, weight: Any) -> float:
    array = getattr(weight, "array", weight)
    try:
        return float(array)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"the weight of {key!r} must be a number, not {array!r}") from error


class DictSummary:
    """A `Summary` for every key of the dictionaries that are added.

    Attributes:
        first_nonfinite: for each key that was NaN or infinite, the number of the first `add` at which it was, counted
            from 1 since this object was made. Values on a GPU are not looked at.
    """

    def __init__(self) -> None:
        self._summaries: dict[str, Summary] = {}
        self._adds = 0
        self.first_nonfinite: dict[str, int] = {}

    def add(self, values: Mapping[str, Any], weight: float = 1.0) -> None:
        """Adds one dictionary of observations.

        Args:
            values: numbers, 0-dimensional arrays, Variables of such, or pairs (value, weight). Anything else is
                ignored.
            weight: of the values that bring none of their own.
        """
        self._adds += 1
        summaries = self._summaries
        for key, value in values.items():
            own = weight
            if type(value) is tuple:
                value, own = value
                own = _scalar_weight(key, own)
            value = getattr(value, "array", value)
            if type(value) not in _FAST and not isinstance(value, _HOST_NUMBERS):
                if type(value) is not np.ndarray and backend.is_gpu_array(value) and value.ndim == 0:
                    self._of(key).add(value, own)
                    continue
                if not isinstance(value, np.ndarray) or value.ndim or value.dtype.kind not in "fiub":
                    continue
            number = float(value)
            if own:
                summary = summaries.get(key) or self._of(key)
                weighted = own * number
                summary._x += weighted
                summary._x2 += weighted * number
                summary._n += own
                if number - number != 0.0 and key not in self.first_nonfinite:  # NaN or infinite
                    self.first_nonfinite[key] = self._adds
            elif key not in summaries:
                self._of(key)

    def _of(self, key: str) -> Summary:
        return self._summaries.setdefault(key, Summary())

    def sums(self) -> dict[str, Sums]:
        """The sums of every key: plain numbers, to be sent to another rank and merged there."""
        return {key: summary.sums() for key, summary in self._summaries.items()}

    def merge(self, sums: Mapping[str, Sums]) -> None:
        """Adds the sums of another DictSummary. Which keys it has may differ."""
        for key, values in sums.items():
            self._of(key).merge(values)

    def compute_mean(self) -> dict[str, float]:
        """The weighted mean of every key."""
        return {key: summary.compute_mean() for key, summary in self._summaries.items()}

    def over_ranks(self, comm: Any) -> dict[str, float]:
        """The weighted mean of every key over all ranks, added up in their order. A collective call.

        Args:
            comm: communicator of the ranks.
        """
        return self._merged(comm).compute_mean()

    def gathered(self, comm: Any) -> DictSummary:
        """The sums of all ranks on rank 0, an empty summary elsewhere: for a snapshot. A collective call.

        Args:
            comm: communicator of the ranks.
        """
        merged = self._merged(comm)
        return merged if comm.rank == 0 else DictSummary()

    def _merged(self, comm: Any) -> DictSummary:
        merged = DictSummary()
        for sums in comm.allgather_obj(self.sums()):
            merged.merge(sums)
        return merged

    def make_statistics(self) -> dict[str, float]:
        """Mean of every key, and its standard deviation under the key with `.std` appended."""
        statistics = {}
        for key, summary in self._summaries.items():
            statistics[key], statistics[key + ".std"] = summary.make_statistics()
        return statistics

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the sums of every key."""
        if serializer.is_writer:
            serializer("_names", json.dumps(list(self._summaries)))
        else:
            names = serializer("_names", None)
            if names is None:  # a rehearsal, or a file without
                return
            self._summaries = {name: Summary() for name in json.loads(names)}
        for i, summary in enumerate(self._summaries.values()):
            summary.serialize(serializer["_summaries"][str(i)])
