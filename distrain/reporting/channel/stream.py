"""The entries of one log, made of the sums of all ranks without waiting for those that do not come."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping

from distrain.reporting.channel.hub import Hub, Parts
from distrain.reporting.channel.member import Member
from distrain.reporting.channel.messages import Entry, Part
from distrain.reporting.merged import Merged
from distrain.reporting.summary import DictSummary, Sums


class MergingStream:
    """One log on rank 0.

    Args:
        hub: rank 0's end of the side channel.
        number: of the log; the same on all ranks, and no other log's.
        size: ranks of the job.
    """

    def __init__(self, hub: Hub, number: int, size: int) -> None:
        self._hub, self._number, self._size = hub, number, size
        self._has_warned = False

    def merge(
        self, iteration: int, own: dict[str, Sums], elapsed_time: float, wait_s: float, is_final: bool = True
    ) -> Merged | None:
        """The entry of an iteration; the other ranks get it too.

        Args:
            iteration: of the entry.
            own: what rank 0 has summed up.
            elapsed_time: in seconds.
            wait_s: so long it waits for the sums of other ranks.
            is_final: whether the entry is made without those that have not come by then; else there is None, and the
                next call may have better luck.
        """
        others = self._hub.take(self._number, iteration, wait_s, is_final)
        if others is None:
            return None
        parts: Parts = {0: own, **others}
        missing_ranks = [rank for rank in range(self._size) if rank not in parts]
        summary = DictSummary()
        for rank in sorted(parts):  # in this order, as floating-point sums depend on it
            summary.merge(parts[rank])
        means, missing_keys = summary.compute_mean(), find_missing_keys(parts)
        merged = Merged(iteration, elapsed_time, means, missing_ranks, missing_keys)
        self._hub.send(Entry(self._number, merged))
        self._warn(merged)
        return merged

    def _warn(self, merged: Merged) -> None:
        if self._has_warned or not (merged.missing_ranks or merged.missing_keys):
            return
        self._has_warned = True
        lacks = [f"the sums of rank {', '.join(map(str, merged.missing_ranks))}"] if merged.missing_ranks else []
        lacks += [f"{key!r} of rank {', '.join(map(str, ranks))}" for key, ranks in merged.missing_keys.items()]
        warnings.warn(
            f"the entry of iteration {merged.iteration} in the log is without {'; '.join(lacks[:5])}"
            f"{' …' if len(lacks) > 5 else ''}. Entries name what they lack; this is not said again.",
            stacklevel=4,
        )


class SendingStream:
    """One log on another rank.

    Args:
        member: this rank's end of the side channel.
        number: of the log; the same on all ranks, and no other log's.
        size: ranks of the job.
        wait_s: so long `receive` waits for an entry; not again before something has come.
    """

    def __init__(self, member: Member, number: int, size: int, wait_s: float) -> None:
        self._member, self._number, self._size, self._wait_s = member, number, size, wait_s
        self._has_warned = False
        self._waits_in_vain = False

    def send(self, iteration: int, own: dict[str, Sums]) -> None:
        """Sends what this rank has summed up for an entry. Never waits."""
        self._member.send(Part(self._number, iteration, own))

    def receive(self, until: int, wait: bool) -> dict[int, Merged]:
        """Entries that rank 0 has made of the sums of all ranks, by iteration.

        Args:
            until: the iteration of the last one that is wanted.
            wait: for that one, no longer than `wait_s`.
        """
        found: dict[int, Merged] = {}
        end = time.monotonic() + self._wait_s
        while True:
            rest = end - time.monotonic() if wait and not self._waits_in_vain else 0.0
            for merged in self._member.arrivals(self._number, rest):
                found[merged.iteration] = merged
                self._waits_in_vain = False
            if until in found or self._member.is_leaving:
                return found
            if rest <= 0:
                self._waits_in_vain = self._waits_in_vain or wait
                return found

    def alone(self, iteration: int, own: Mapping[str, Sums], elapsed_time: float) -> Merged:
        """The entry of an iteration made of this rank's sums, where rank 0's has been lost."""
        others = [rank for rank in range(self._size) if rank != self._member.rank]
        if not self._has_warned and not self._member.is_leaving:
            self._has_warned = True
            warnings.warn(
                f"rank 0 has not sent the entry of iteration {iteration} in the log; that of rank {self._member.rank} "
                "has the means of this rank instead, and names the others as missing. This is not said again.",
                stacklevel=5,
            )
        summary = DictSummary()
        summary.merge(own)
        return Merged(iteration, elapsed_time, summary.compute_mean(), others)


def find_missing_keys(parts: Parts) -> dict[str, list[int]]:
    """Which ranks have not reported a key that others have.

    What rank 0 alone has reported is not looked for elsewhere: extensions that run on rank 0 do that.
    """
    if all(sums.keys() == parts[0].keys() for sums in parts.values()):
        return {}
    keys: dict[str, int] = {}
    for sums in parts.values():
        for key in sums:
            keys[key] = keys.get(key, 0) + 1
    return {
        key: [rank for rank in sorted(parts) if key not in parts[rank]]
        for key, count in keys.items()
        if count < len(parts) and not (count == 1 and key in parts[0])
    }
