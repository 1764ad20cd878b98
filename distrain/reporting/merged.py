"""An entry of a log, as rank 0 has made it of the sums of all ranks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Merged:
    """The means of an interval, and what they are without.

    Attributes:
        iteration: of the entry.
        elapsed_time: seconds of training by rank 0's clock.
        means: by key.
        missing_ranks: whose sums have not come.
        missing_keys: which of the other ranks have not reported a key, by key.
    """

    iteration: int
    elapsed_time: float
    means: dict[str, float]
    missing_ranks: list[int] = field(default_factory=list)
    missing_keys: dict[str, list[int]] = field(default_factory=dict)
