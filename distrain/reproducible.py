"""Reproducible mode: the same bits on any number of ranks.

A sum of floating-point numbers depends on the order of its terms, a product of matrices on their shapes. So in this
mode every minibatch is cut into a fixed number of shards, whatever the number of ranks; a rank works through its
shards one by one, with one BLAS thread; and everything that is summed over the minibatch is summed over the shards,
in a fixed order.

It is switched on for the whole job, before iterators are made: by `set_reproducible`, by the variable
DISTRAIN_REPRODUCIBLE (`1`, or a number of shards), or by `distrain run --reproducible`.
"""

from __future__ import annotations

import os

from distrain.errors import ArgumentError

VARIABLE = "DISTRAIN_REPRODUCIBLE"
DEFAULT_SHARDS = 8


class _Job:
    shards: int | None = None  # None: nobody has asked yet


def set_reproducible(on: bool = True, shards: int = DEFAULT_SHARDS) -> None:
    """Switches reproducible mode on or off; call it before iterators and models are made, alike on all ranks.

    Args:
        on: whether it is on.
        shards: parts of a minibatch; the largest number of ranks. Another number gives other bits.

    Raises:
        ArgumentError: `shards` is not a positive integer.
    """
    if not isinstance(shards, int) or isinstance(shards, bool) or shards < 1:
        raise ArgumentError(f"shards must be a positive integer, not {shards!r}")
    _set(shards if on else 0)


def shards() -> int:
    """Shards of a minibatch; 0 outside of reproducible mode."""
    if _Job.shards is None:
        _set(_from_environment(os.environ.get(VARIABLE, "")))
    return _Job.shards or 0


def _from_environment(text: str) -> int:
    if text in ("", "0"):
        return 0
    if not text.isdecimal():
        raise ArgumentError(f"{VARIABLE} must be 0, 1 or a number of shards, not {text!r}")
    return int(text) if int(text) > 1 else DEFAULT_SHARDS


def _set(count: int) -> None:
    if count:
        from threadpoolctl import threadpool_limits

        threadpool_limits(1, user_api="blas")  # how a product is shared out among threads can change its bits
    _Job.shards = count
