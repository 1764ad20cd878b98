import mmap
import os
import re
from pathlib import Path

import numpy as np
import pytest

from distrain.iterators.feed.pages import SMALLEST, address_of, move_to_file


def moved(array):
    """Moves an array's bytes to a file; returns the file and where they are in it."""
    data = memoryview(array).cast("B")
    fd = os.memfd_create("test-pages")
    offset = mmap.PAGESIZE + address_of(data) % mmap.PAGESIZE
    move_to_file(data, fd, offset)
    return fd, offset


def kib_of(array, field):
    """What the kernel says of the mappings that an array lies in, summed."""
    start = array.ctypes.data
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) < start + array.nbytes and start < int(found[2], 16)
        elif inside and line.startswith(f"{field}:"):
            total += int(line.split()[1])
    return total


@pytest.mark.parametrize("nbytes", [0, 1, 5000, SMALLEST - 1, SMALLEST, SMALLEST + 12345, (1 << 26) + 777])
def test_the_bytes_are_in_the_file_and_still_in_the_array(nbytes):
    array = np.random.default_rng(1).integers(0, 256, nbytes, np.uint8)
    expected = array.copy()
    fd, offset = moved(array)
    assert np.array_equal(array, expected)
    assert os.pread(fd, nbytes, offset) == expected.tobytes()
    os.close(fd)


def test_the_array_has_no_pages_of_its_own_any_more():
    array = np.ones(4 * SMALLEST, np.uint8)
    assert kib_of(array, "Anonymous") > 3 * SMALLEST // 1024
    fd, _ = moved(array)
    assert kib_of(array, "Anonymous") < 64  # the ends, which share a page with something else
    os.close(fd)
    assert array.sum() == 4 * SMALLEST


def test_what_is_written_afterwards_stays_in_the_process():
    array = np.ones(2 * SMALLEST, np.uint8)
    fd, offset = moved(array)
    array[SMALLEST] = 7
    assert array[SMALLEST] == 7
    assert os.pread(fd, 1, offset + SMALLEST) == b"\1"
    os.close(fd)


def test_freed_and_taken_again():
    for fill in range(5):
        array = np.full(2 * SMALLEST, fill, np.uint8)
        fd, _ = moved(array)
        os.close(fd)
        assert (array == fill).all()
        del array


def test_small_arrays_are_only_copied():
    array = np.ones(SMALLEST - 1, np.uint8)
    before = kib_of(array, "Anonymous")
    os.close(moved(array)[0])
    assert kib_of(array, "Anonymous") == before


def test_a_mapped_file_stays_one(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(2 * SMALLEST))
    array = np.memmap(path, np.uint8, "r+")
    os.close(moved(np.asarray(array))[0])
    array[SMALLEST] = 9
    array.flush()
    assert path.read_bytes()[SMALLEST] == 9


def test_memory_shared_with_others_stays_so():
    shared = mmap.mmap(-1, 2 * SMALLEST)
    array = np.frombuffer(shared, np.uint8)
    os.close(moved(array)[0])
    child = os.fork()
    if child == 0:
        array[5] = 9
        os._exit(0)
    os.waitpid(child, 0)
    assert array[5] == 9


def test_read_only_memory_is_left_alone():
    data = bytes(2 * SMALLEST)
    array = np.frombuffer(data, np.uint8)
    fd, offset = moved(array)
    assert os.pread(fd, 10, offset) == bytes(10)
    assert data == bytes(2 * SMALLEST)
    os.close(fd)
