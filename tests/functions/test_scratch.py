import threading

import numpy as np

from distrain.functions import scratch


def test_the_same_memory_again():
    a = scratch.empty(np, "test", (3, 4), np.float32)
    b = scratch.empty(np, "test", (2, 3), np.float64)
    assert (a.shape, a.dtype, b.shape, b.dtype) == ((3, 4), np.float32, (2, 3), np.float64)
    assert np.shares_memory(a, b)
    assert not np.shares_memory(a, scratch.empty(np, "other", (3, 4), np.float32))


def test_it_grows():
    small = scratch.empty(np, "grow", (3,), np.float32)
    small[...] = 1
    assert scratch.empty(np, "grow", (1000,), np.float32).shape == (1000,)
    np.testing.assert_array_equal(small, 1)  # who holds the old one keeps it


def test_every_thread_has_its_own():
    found = []
    thread = threading.Thread(target=lambda: found.append(scratch.empty(np, "test", (4,), np.float32)))
    thread.start()
    thread.join(20)
    assert not np.shares_memory(found[0], scratch.empty(np, "test", (4,), np.float32))


def test_a_huge_one_is_not_kept():
    shape = (2**24 + 1,)
    assert not np.shares_memory(scratch.empty(np, "huge", shape, np.int8), scratch.empty(np, "huge", shape, np.int8))


def test_no_elements():
    assert scratch.empty(np, "none", (0, 3), np.float32).shape == (0, 3)
