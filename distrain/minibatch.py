"""Which minibatch the current thread is working on, and which part of it is this rank's.

An iterator says so when it hands out a batch; everything that must know reads it here: the optimizer weighs the
gradients with it, the reporter the metrics, and noise is drawn for the position of the samples in the job's batch.
So a hand-written loop needs no extra line to train on many ranks.
"""

from __future__ import annotations

import threading
from typing import NamedTuple


class Share(NamedTuple):
    """This rank's part `[start, start + count)` of the `total` samples of the job's minibatch.

    Attributes:
        step: number of minibatches the iterator has handed out before this one.
        start: position of this rank's first sample in the minibatch.
        count: samples of this rank; 0 where there are fewer samples than ranks.
        total: samples of the job.
        ranks: how many ranks share the minibatch; None: all that train together.
        part: number of the part where the rank works through its share in parts, one after the other.
    """

    step: int
    start: int
    count: int  # type: ignore[assignment]    # it hides tuple.count
    total: int
    ranks: int | None = None
    part: int | None = None

    @property
    def weight(self) -> float:
        """What this rank's mean contributes to the job's mean: `count / total`."""
        return self.count / self.total if self.total else 0.0


class _Current(threading.local):
    share: Share | None = None


_current = _Current()


def announce(share: Share | None) -> None:
    """Says which minibatch this thread works on from now on; None when there is none."""
    _current.share = share


def current() -> Share | None:
    """The share of the minibatch that an iterator last handed to this thread, if any."""
    return _current.share
