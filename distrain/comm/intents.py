"""What a rank is about to do, as the ranks compare it before each collective; pure.

An intent is a tuple: the name of the call, and what must be the same on all ranks.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Intent = tuple[Any, ...]

LEAVE = "leave"
"""The name for the end of the script."""


@dataclass(frozen=True, slots=True)
class Summary:
    """An intent in short.

    Attributes:
        number: tells it apart from others; 56 bits.
        action, elements, dtype: for an entry of the record; see `record.Slot.enter`.
    """

    number: int
    action: bytes
    elements: int = -1
    dtype: bytes = b""


@functools.lru_cache(maxsize=4096)
def summary(intent: Intent) -> Summary:
    """An intent in short."""
    number = int.from_bytes(hashlib.blake2b(repr(intent).encode(), digest_size=7).digest())
    match intent:
        case (name, dtype, tuple() as shape):
            return Summary(number, name.encode(), math.prod(shape), str(np.dtype(dtype)).encode())
        case (name, *_):
            return Summary(number, name.encode())
    raise AssertionError(intent)


def describe(intent: Intent) -> str:
    """An intent in words."""
    match intent:
        case ("leave",):
            return "has come to the end of its script"
        case (name, dtype, tuple() as shape):
            return f"{name} of {np.dtype(dtype)!s} {shape}"
        case (name, *rest):
            return " ".join([name, *(f"with {r!r}" for r in rest if r is not None)])
    raise AssertionError(intent)


def difference(intents: Sequence[str], hosts: Sequence[str]) -> str:
    """The message about ranks with different intents.

    Args:
        intents: in words, for each rank.
        hosts: likewise the node that it is on.
    """
    lines = ["the ranks disagree about what comes next:"]
    for intent in dict.fromkeys(intents):
        ranks = [rank for rank, other in enumerate(intents) if other == intent]
        names = ", ".join(f"{rank} ({hosts[rank]})" for rank in ranks[:8]) + (" …" if len(ranks) > 8 else "")
        lines.append(f"  rank {names}: {intent}")
    lines.append(
        "Every rank must call the same collectives in the same order; look for code that runs on some ranks only."
    )
    return "\n".join(lines)
