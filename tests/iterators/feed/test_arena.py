"""Slots are the user's as long as an array refers to them, and memory that is not there is an error at once."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from distrain.errors import FeedError
from distrain.iterators.feed.arena import MAX_FEEDERS, Arena, ArenaView, Progress

HEADER = MAX_FEEDERS * 64
REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def arena():
    arena = Arena()
    yield arena
    arena.close()


class TestSlots:
    @pytest.mark.parametrize("nbytes", [0, 1, 4096, 4097, 1_000_000])
    def test_are_large_enough_aligned_and_zero(self, arena, nbytes):
        slot = arena.add_slot(nbytes)
        memory = slot.lend()
        assert len(memory) == slot.nbytes >= nbytes
        assert memory.ctypes.data % 4096 == slot.offset % 4096 == 0
        assert slot.address == memory.ctypes.data
        assert not memory.any()

    def test_do_not_overlap(self, arena):
        slots = [arena.add_slot(nbytes) for nbytes in (1, 5000, 4096)]
        ends = [slot.offset + slot.nbytes for slot in slots]
        assert [slot.offset for slot in slots] == [HEADER, *ends[:2]]
        for value, slot in enumerate(slots, 1):
            slot.lend()[:] = value
        for value, slot in enumerate(slots, 1):
            assert (slot.lend() == value).all()

    def test_that_are_free_are_used_again(self, arena):
        slot = arena.add_slot(5000)
        assert arena.free_slot(5000) is slot
        slot.pending.add(7)
        assert arena.free_slot(5000) is None
        slot.pending.clear()
        memory = slot.lend()
        assert arena.free_slot(5000) is None
        del memory
        assert arena.free_slot(5000) is slot
        assert arena.slots == [slot]

    def test_that_are_too_small_are_given_up_unless_they_are_in_use(self, arena):
        free, lent, pending, large = (arena.add_slot(nbytes) for nbytes in (4096, 4096, 4096, 40960))
        memory = lent.lend()
        memory[:] = 5
        pending.pending.add(1)
        free.lend()[:] = 1
        before = os.stat(arena.fd).st_blocks
        assert arena.free_slot(8192) is large
        assert arena.slots == [lent, pending, large]
        assert os.stat(arena.fd).st_blocks < before
        assert (memory == 5).all()


class TestLending:
    @pytest.mark.parametrize(
        "view",
        [
            lambda memory: memory,
            lambda memory: memory[10:20],
            lambda memory: memory[:40].view(np.float32).reshape(2, 5)[1].T,
            lambda memory: np.ndarray((3, 5), np.int64, memory, 64)[1:][0, ::2],
            lambda memory: np.asarray(memory)[None, :8],
            lambda memory: memory[:16].view("M8[s]"),
            lambda memory: memoryview(memory)[3:9],
            lambda memory: np.frombuffer(memoryview(memory), np.uint16)[2:4],
            lambda memory: {"a": [(memory[1:2],)]},
        ],
    )
    def test_lasts_as_long_as_any_view_of_a_view(self, arena, view):
        slot = arena.add_slot(4096)
        held = view(slot.lend())
        assert slot.is_lent
        assert not slot.is_free
        del held
        assert slot.is_free

    def test_copies_do_not_count(self, arena):
        slot = arena.add_slot(4096)
        copies = [slot.lend().copy(), slot.lend()[3:5] + 1, slot.lend().tobytes()]
        assert slot.is_free
        del copies

    def test_is_over_when_another_thread_lets_go(self, arena):
        slot = arena.add_slot(4096)
        box = [slot.lend()[5:]]
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join(10)
        assert slot.is_free

    def test_outlives_the_arena(self):
        arena = Arena()
        slot = arena.add_slot(4096)
        memory = slot.lend()
        memory[:] = 9
        arena.close()
        arena.close()
        del slot, arena
        assert (memory == 9).all()
        memory[:] = 8
        assert memory.sum() == 8 * 4096


class TestProgress:
    def test_is_seen_by_the_rank(self, arena):
        views = [ArenaView(arena.fd, number) for number in (0, 5, MAX_FEEDERS - 1)]
        for i, view in enumerate(views):
            view.mark(2**63 + i, i, 1_500_000_000)
        assert [arena.progress(number) for number in (0, 5, MAX_FEEDERS - 1)] == [
            Progress(2**63 + i, i, 1.5) for i in range(3)
        ]
        assert arena.progress(1) == Progress(0, 0, 0.0)
        arena.forget(5)
        assert arena.progress(5) == Progress(0, 0, 0.0)
        assert arena.progress(0).row == 0


class TestView:
    def test_follows_the_arena_as_it_grows(self, arena):
        view = ArenaView(arena.fd, 0)
        for value in (1, 2, 3):
            slot = arena.add_slot(5000)
            view.memory(slot.offset, slot.nbytes)[:] = value
            assert (slot.lend() == value).all()
            view.mark(value, 0, 0)
            assert arena.progress(0).ticket == value

    @pytest.mark.parametrize(
        ("offset", "nbytes"),
        [(0, 64), (HEADER - 1, 1), (HEADER, 8193), (HEADER + 8192, 1), (HEADER, -1), (2**62, 2**62), (-4096, 4096)],
    )
    def test_refuses_what_is_no_slot(self, arena, offset, nbytes):
        slot = arena.add_slot(8192)
        view = ArenaView(arena.fd, 0)
        assert len(view.memory(slot.offset, 8192)) == 8192
        with pytest.raises(FeedError, match="lies outside of an arena"):
            view.memory(offset, nbytes)


def test_the_file_cannot_be_shortened_and_its_seals_stay(arena):
    slot = arena.add_slot(8192)
    with pytest.raises(PermissionError):
        os.ftruncate(arena.fd, HEADER)
    with pytest.raises(PermissionError):
        fcntl.fcntl(arena.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    assert slot.lend().sum() == 0


def test_the_file_has_no_name_and_is_not_inherited(arena):
    assert os.readlink(f"/proc/self/fd/{arena.fd}") == "/memfd:distrain-arena (deleted)"
    assert not os.get_inheritable(arena.fd)


def test_more_than_the_machine_has(arena):
    with pytest.raises(FeedError, match=r"the feed needs [\d,.]+ MiB .* MiB are available. Use a smaller batch_size"):
        arena.add_slot(1 << 50)
    assert arena.slots == []
    assert len(arena.add_slot(100).lend()) >= 100


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from distrain.errors import FeedError
from distrain.iterators.feed.arena import Arena
arena = Arena()
slot = arena.add_slot(500_000)
try:
    arena.add_slot(500_001)
except FeedError as error:
    print(error)
smaller = arena.add_slot(300_000)
smaller.lend()[:] = 1
print(len(arena.slots), slot.lend().sum(), smaller.offset == slot.offset + slot.nbytes)
"""


def test_a_limit_is_an_error_and_no_signal_and_what_fits_still_does():
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    assert done.returncode == 0, done.stderr
    message, numbers = done.stdout.splitlines()
    assert message.startswith("the feed needs 0.5 MiB of shared memory for another minibatch, but [Errno 27]")
    assert numbers == "2 0 True"
