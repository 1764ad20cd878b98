"""Memory that two processes share although it was made by one of them, for itself.

A script loads its data into an ordinary array. To let feeders map the same pages, they are copied to an anonymous file,
and the file is mapped in their place: the array keeps its address and its bytes, and its old pages are free. Done piece
by piece it never takes much more memory than the array. The new mapping is private, so what the script writes into its
array afterwards is its own, as before.

Only memory that is nothing but memory is treated so: private, anonymous, writable, as `malloc` gives it for big blocks.
Mapped files, shared memory and memory of devices are left alone, as is everything on other systems than Linux.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from pathlib import Path

import numpy as np

SMALLEST = 1 << 24
"""Bytes from which on it is worth while."""

_CHUNK = 1 << 26
_MAP_FIXED = 0x10
_ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *(?:\[anon:.*\])?")


def address_of(data: memoryview) -> int:
    """Where these bytes lie."""
    return int(np.frombuffer(data, np.uint8).ctypes.data) if len(data) else 0


def move_to_file(data: memoryview, fd: int, offset: int) -> None:
    """Writes bytes to a file, and maps the file in the place of the pages that they fill, where that can be done.

    No other thread may write to them meanwhile.

    Args:
        data: the bytes.
        fd: an anonymous file.
        offset: in it; must lie in a page where `address_of(data)` lies, or nothing is mapped.

    Raises:
        OSError: the file cannot take them.
    """
    address = address_of(data)
    can_be_mapped = (address - offset) % mmap.PAGESIZE == 0 and len(data) >= SMALLEST
    ours = can_be_mapped and _is_plain_memory(address, address + len(data))
    done = 0
    while done < len(data):
        end = min(len(data), done + _CHUNK - (offset + done) % mmap.PAGESIZE)
        _write(fd, offset + done, data[done:end])
        if ours:
            first = -(-(address + done) // mmap.PAGESIZE) * mmap.PAGESIZE
            last = (address + end) // mmap.PAGESIZE * mmap.PAGESIZE
            if first < last:
                _map(first, last - first, fd, first - address + offset)
        done = end


def _write(fd: int, offset: int, data: memoryview) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def _is_plain_memory(start: int, end: int) -> bool:
    """Whether all of these addresses are private anonymous memory that may be written to."""
    at = start
    try:
        for line in Path("/proc/self/maps").read_text().splitlines():
            found = _ANONYMOUS.fullmatch(line.rstrip())
            if found and int(found[1], 16) <= at < int(found[2], 16):
                at = int(found[2], 16)
                if at >= end:
                    return True
    except OSError:
        return False
    return False


def _map(address: int, nbytes: int, fd: int, offset: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64,
    ]
    flags = mmap.MAP_PRIVATE | _MAP_FIXED
    mapped = libc.mmap(address, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset)
    if mapped != address:  # the old pages are still there
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
