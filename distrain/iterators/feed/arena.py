"""The memory in which feeders build minibatches: slots in one anonymous file that the feeders inherit.

Guarantees:

- The file has no name, so nothing is left behind however the processes end.
- Its memory is taken when a slot is made, so a full memory is an error then and no SIGBUS later.
- The arrays that a user gets are views of a slot, and the slot is not written to again while one of them, or a view of
  one, is alive.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.errors import FeedError

MAX_FEEDERS = 1024

_RECORD = struct.Struct("<QQQ")  # ticket, row, nanoseconds; all 0: at rest
_RECORD_NBYTES = 64  # a cache line for each feeder
_HEADER_NBYTES = MAX_FEEDERS * _RECORD_NBYTES
_F_SEAL_SEAL, _F_SEAL_SHRINK = 1, 2


@dataclass(frozen=True, slots=True)
class Progress:
    """What a feeder is doing.

    Attributes:
        ticket: the work; 0 when it has none.
        row: the row of the minibatch that it is reading.
        since: when it began with that row, in seconds of `time.monotonic`.
    """

    ticket: int
    row: int
    since: float


class Slot:
    """Memory for one minibatch.

    Attributes:
        offset: in the file.
        nbytes: of it.
        address: where it lies in this process.
        pending: work that may still write into it.
        is_lent: whether there are arrays that are views of it.
    """

    def __init__(self, fd: int, offset: int, nbytes: int) -> None:
        self.offset = offset
        self.nbytes = nbytes
        self.pending: set[int] = set()
        self.is_lent = False
        self._map = mmap.mmap(fd, nbytes, offset=offset)
        self.address: int = np.frombuffer(self._map, np.uint8).ctypes.data
        self._interface = {
            "version": 3,
            "data": (self.address, False),
            "shape": (nbytes,),
            "typestr": "|u1",
        }

    @property
    def is_free(self) -> bool:
        """Whether nobody uses it."""
        return not (self.is_lent or self.pending)

    def lend(self) -> NDArray[np.uint8]:
        """The bytes. The slot counts as lent until no array that is a view of them is left."""
        self.is_lent = True
        return np.asarray(_Loan(self, self._interface))

    def give_back_memory(self) -> None:
        """Returns the pages to the system; the slot is not to be used any more."""
        self._map.madvise(mmap.MADV_REMOVE)


class _Loan:
    """What arrays of a lent slot refer to in the end; it goes when they go."""

    __slots__ = ("__array_interface__", "_slot")

    def __init__(self, slot: Slot, interface: dict[str, Any]) -> None:
        self._slot = slot
        self.__array_interface__ = interface

    def __del__(self) -> None:
        self._slot.is_lent = False


class Arena:
    """The rank's side: makes slots, and reads what the feeders are doing.

    Attributes:
        fd: of the file, for the feeders.
        slots: those in use.
    """

    def __init__(self) -> None:
        self.fd = os.memfd_create("distrain-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, _HEADER_NBYTES)
        # A feeder that could shorten the file would end the rank with SIGBUS.
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _F_SEAL_SHRINK | _F_SEAL_SEAL)
        self.slots: list[Slot] = []
        self._end = _HEADER_NBYTES
        self._header = mmap.mmap(self.fd, _HEADER_NBYTES)

    def add_slot(self, nbytes: int) -> Slot:
        """A new slot of at least so many bytes.

        Raises:
            FeedError: there is not enough memory; the message says how much there is.
        """
        nbytes = max(1, -(-nbytes // mmap.ALLOCATIONGRANULARITY)) * mmap.ALLOCATIONGRANULARITY
        available = _available_memory()
        if available is not None and nbytes > available:
            raise FeedError(_too_little(nbytes, f"{_mib(available)} are available"))
        try:
            os.ftruncate(self.fd, self._end + nbytes)
            os.posix_fallocate(self.fd, self._end, nbytes)
            slot = Slot(self.fd, self._end, nbytes)
        except OSError as error:
            raise FeedError(_too_little(nbytes, str(error))) from error
        self._end += nbytes
        self.slots.append(slot)
        return slot

    def free_slot(self, nbytes: int) -> Slot | None:
        """A slot of at least so many bytes that nobody uses; smaller ones that nobody uses are given up."""
        for slot in list(self.slots):
            if slot.is_free:
                if slot.nbytes >= nbytes:
                    return slot
                self.slots.remove(slot)
                slot.give_back_memory()
        return None

    def progress(self, number: int) -> Progress:
        """What feeder `number` is doing."""
        ticket, row, since = _RECORD.unpack_from(self._header, number * _RECORD_NBYTES)
        return Progress(ticket, row, since * 1e-9)

    def forget(self, number: int) -> None:
        """Clears the record of a feeder that is gone."""
        _RECORD.pack_into(self._header, number * _RECORD_NBYTES, 0, 0, 0)

    def close(self) -> None:
        """Closes the file. Memory that is lent stays until it comes back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.slots.clear()
            self._header.close()  # it has a descriptor of its own


class ArenaView:
    """A feeder's side of an arena.

    Args:
        fd: of the arena.
        number: of this feeder.
    """

    def __init__(self, fd: int, number: int) -> None:
        self._fd = fd
        self._at = number * _RECORD_NBYTES
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def mark(self, ticket: int, row: int, since_ns: int) -> None:
        """Says what this feeder is doing."""
        _RECORD.pack_into(self._map, self._at, ticket, row, since_ns)

    def memory(self, offset: int, nbytes: int) -> NDArray[np.uint8]:
        """The bytes of a slot.

        Raises:
            FeedError: the arena has no such bytes.
        """
        if offset + nbytes > len(self._bytes):  # the arena has grown since
            size = os.fstat(self._fd).st_size
            self._map = mmap.mmap(self._fd, size)
            self._bytes = np.frombuffer(self._map, np.uint8)
        if not _HEADER_NBYTES <= offset <= offset + nbytes <= len(self._bytes):
            raise FeedError(f"a slot of {nbytes} bytes at {offset} lies outside of an arena of {len(self._bytes)}")
        return self._bytes[offset : offset + nbytes]


def _available_memory() -> int | None:
    """Bytes that this process may still take, as the machine and its control group tell; None if they do not."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        group = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        folder = Path("/sys/fs/cgroup") / group.lstrip("/")
        limit = (folder / "memory.max").read_text().strip()
        if limit != "max":
            found.append(max(0, int(limit) - int((folder / "memory.current").read_text())))
    except (OSError, ValueError):  # no such files on this system
        pass
    return min(found, default=None)


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.1f} MiB"


def _too_little(nbytes: int, problem: str) -> str:
    return (
        f"the feed needs {_mib(nbytes)} of shared memory for another minibatch, but {problem}. Use a smaller "
        "batch_size, a smaller n_prefetch, or smaller samples, or raise the memory limit of the job."
    )
