"""What a rank leaves for the launcher: how far it was, and why it failed. It outlives the rank, whatever kills it.

The launcher gives each rank a small file in memory. The iteration is a store into it, so it costs nothing to keep it
up to date; without the launcher everything here does nothing.

    iteration   int64    last complete iteration of the trainer; -1: not known
    state       int64    see below
    length      int64    bytes of the report
    failures    int64    failures of the job before this attempt, as its trainings know
    before      float64  seconds of training that the trainers of this attempt have found in their snapshots
    trained     float64  seconds of training that lasts, once they have come to their end: those before included
    report               what the rank says about its failure, in UTF-8
    …
    entries              the last collectives, see below; they are the last bytes of the file

An entry is 96 bytes: what the rank does together with others, or did last. A new one is written over the oldest.

    number      int64    of the entry, from 0
    begin, end  float64  seconds since the epoch; end is 0 until it has ended
    count       int64    which one of its lane; of a message the rank at its other end
    elements    int64    of the array; -1: unknown
    creator, made  int32 name of the communicator: its rank 0's number in the job, and how many that one had made before
    size        int32    ranks of the communicator
    lane        int32    COLLECTIVES, GRADIENTS or MESSAGES
    action      16 bytes in ASCII, filled up with zeros
    dtype       16 bytes likewise
    number      int64    again: a kill may leave half an entry
"""

from __future__ import annotations

import mmap
import os
import struct

_VARIABLE = "DISTRAIN_BLACK_BOX"  # descriptor:device:inode
_ITERATION, _STATE, _LENGTH, _FAILURES = range(4)
_BEFORE, _TRAINED = range(2)
_NUMBERS_BYTES, _HEADER_BYTES = 32, 48

ENTRY = struct.Struct("=qddqq16s16s16sq")  # the communicator's 16 bytes are packed once
NAME = struct.Struct("=iiii")
ENTRIES = 32
_ENTRIES_BYTES = ENTRIES * ENTRY.size

COLLECTIVES, GRADIENTS, MESSAGES = range(3)
"""Lanes of a communicator: within each, but for messages, all its ranks come to the same entries in the same order."""

RUNNING = 1
"""The rank has joined the others."""
LEFT = 2
"""All ranks came to the end of the script."""
DESERTED = 3
"""The rank came to its end while others waited for it."""
FORSAKEN = 4
"""The rank waited for one that had come to its end."""
TRAINING = 5
"""As RUNNING, in a training that takes SIGTERM as a wish to stop; see `distrain.training.stopping`."""


class _Box:
    """The file of this process. A process forked by the rank is not the rank."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.memory = _map(os.environ.get(_VARIABLE))
        self.numbers = None if self.memory is None else memoryview(self.memory)[:_NUMBERS_BYTES].cast("q")
        self.times = None if self.memory is None else memoryview(self.memory)[_NUMBERS_BYTES:_HEADER_BYTES].cast("d")


def _map(place: str | None) -> mmap.mmap | None:
    if place is None:
        return None
    descriptor, device, inode = map(int, place.split(":"))
    try:
        found = os.fstat(descriptor)
    except OSError:  # a process that the rank has started, without this file
        return None
    if (found.st_dev, found.st_ino) != (device, inode):
        return None
    return mmap.mmap(descriptor, found.st_size)


_box = _Box()


def is_open() -> bool:
    """Whether this process is a rank that the launcher looks after."""
    return _box.memory is not None and _box.pid == os.getpid()


def note(iteration: int) -> None:
    """Says that an iteration is complete."""
    if _box.numbers is not None:
        _box.numbers[_ITERATION] = iteration


def note_failures(count: int) -> None:
    """Says how many attempts of the job have failed before this one, as a trainer has found."""
    if _box.numbers is not None and is_open():
        _box.numbers[_FAILURES] = max(count, _box.numbers[_FAILURES])


def begin_training(seconds: float) -> None:
    """Says that a trainer begins, and how many seconds it has trained before, in an earlier attempt of the job."""
    if _box.times is not None and is_open():
        _box.times[_BEFORE] += seconds


def end_training(seconds: float) -> None:
    """Says that a trainer has come to its end, or has stopped and is saved; and how many seconds it has trained."""
    if _box.times is not None and is_open():
        _box.times[_TRAINED] += seconds


def state() -> int:
    """What the rank is doing; 0: not known."""
    return 0 if _box.numbers is None else _box.numbers[_STATE]


def enter(state: int) -> None:
    """Says what the rank is doing from now on."""
    if _box.numbers is not None and is_open():
        _box.numbers[_STATE] = state


def entries() -> memoryview:
    """The bytes of the entries, to be written; without the launcher memory that ends with the process."""
    if _box.memory is None or not is_open() or len(_box.memory) < _HEADER_BYTES + _ENTRIES_BYTES:
        return memoryview(bytearray(_ENTRIES_BYTES))
    return memoryview(_box.memory)[-_ENTRIES_BYTES:]


def report(text: str) -> None:
    """Leaves the reason of a failure; the first one of a rank stays."""
    if _box.memory is None or _box.numbers is None or not is_open() or _box.numbers[_LENGTH]:
        return
    room = len(_box.memory) - _HEADER_BYTES - _ENTRIES_BYTES
    data = text.encode(errors="replace")
    if len(data) > room:  # the end of a traceback says more than its middle
        cut = "\n…\n".encode()
        data = data[: room // 4] + cut + data[len(data) - (room - room // 4 - len(cut)) :]
    _box.memory[_HEADER_BYTES : _HEADER_BYTES + len(data)] = data
    _box.numbers[_LENGTH] = len(data)
