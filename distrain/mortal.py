"""Processes that end with the one that has started them, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> bool:
    """Has the kernel kill this process when its parent ends; False if that is gone already.

    The kernel looks at the thread that has started this process: that one must live as long as the process is to.
    Elsewhere than on Linux it says whether the parent is there, and does no more.

    Args:
        parent: its pid.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    return os.getppid() == parent
