"""Faults of feeders, injected for real. `pytest -rP` prints how long it took until each was seen."""

import ctypes
import gc
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import zmq

from distrain import wire
from distrain.dataset import concat_examples
from distrain.datasets import TransformDataset
from distrain.errors import FeedError, MismatchError, SampleError
from distrain.iterators import MultiprocessIterator, SerialIterator
from distrain.iterators.feed import arena, protocol
from distrain.serializers import load_npz, save_npz

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # feeders cannot import it

BAD = 13
N = 40


def plain(i):
    return np.full(3, i, np.float32), i


def made(function, **options):
    options = {"n_processes": 2, "seed": 5, "shuffle": False, "repeat": False, **options}
    iterator = MultiprocessIterator(TransformDataset(range(N), function), 8, **options)
    iterator.close = iterator.finalize
    return closing(iterator)


def numbers(iterator):
    return [int(i) for batch in iterator for i in concat_examples(batch)[1]]


def seen_after(iterator, fault):
    """Commits a fault in another thread, while this one waits; returns a function that gives the seconds."""
    found = []

    def run():
        while iterator.stats()["samples"] < 4:  # until the feeders are at work
            time.sleep(0.005)
        before, start = iterator.stats()["respawns"], time.monotonic()
        fault()
        while iterator.stats()["respawns"] == before and time.monotonic() - start < 30:
            time.sleep(0.0005)
        found.append(time.monotonic() - start)

    thread = threading.Thread(target=run)
    thread.start()

    def seconds():
        thread.join(40)
        return found[0]

    return seconds


def pids(iterator):
    return [feeder.pid for feeder in list(iterator._feed._crew.feeders.values())]


def address_of(iterator):
    return iterator._feed._hub.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()


def once(path, function):
    """Does something in one process only: the first that comes here."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        function()


def slow(i):
    time.sleep(0.05)
    return plain(i)


class TestDeaths:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS], ids=lambda n: n.name)
    def test_a_signal_from_outside(self, number):
        with made(slow) as iterator:
            seconds = seen_after(iterator, lambda: os.kill(pids(iterator)[0], number))
            assert numbers(iterator) == list(range(N))
            print(f"faults 1, 3: {number.name}: seen after {1000 * seconds():.0f} ms")
            assert seconds() < 5
            assert number.name in iterator.stats()["deaths"][0]

    def test_the_nursery(self):
        with made(slow, n_processes=4) as iterator:
            seconds = seen_after(iterator, lambda: os.kill(iterator._feed._crew._nursery.pid, signal.SIGKILL))
            start = time.monotonic()
            assert numbers(iterator) == list(range(N))
            print(f"fault 1: nursery: seen after {1000 * seconds():.0f} ms; all in {time.monotonic() - start:.1f} s")
            assert iterator.stats()["respawns"] == 4

    def test_it_leaves_with_exit_code_0_once(self, tmp_path):
        path = str(tmp_path / "once")

        def read(i):
            if i == BAD:
                once(path, lambda: os._exit(0))
            return plain(i)

        with made(read) as iterator:
            assert numbers(iterator) == list(range(N))
            assert [re.sub(r".*: ", "", death) for death in iterator.stats()["deaths"]] == ["exit code 0"]

    @pytest.mark.parametrize(
        ("end", "cause", "words"),
        [
            (lambda: os._exit(0), "exit code 0", ""),
            (lambda: os._exit(3), "exit code 3", ""),
            (lambda: ctypes.string_at(0), "SIGSEGV", "Segmentation fault"),
            (os.abort, "SIGABRT", "Aborted"),
            (lambda: os.kill(os.getpid(), signal.SIGBUS), "SIGBUS", "Bus error"),
            (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL", ""),
        ],
        ids=["exit 0", "exit 3", "SIGSEGV", "abort", "SIGBUS", "SIGKILL"],
    )
    def test_a_sample_that_ends_every_process(self, end, cause, words):
        def read(i):
            if i == BAD:
                end()
            return plain(i)

        with made(read) as iterator:
            assert concat_examples(iterator.next())[1].tolist() == list(range(8))
            with pytest.raises(SampleError, match=rf"sample {BAD} of TransformDataset .* feeders in a row \({cause}"):
                iterator.next()
            with pytest.raises(SampleError, match=words or "cannot be read"):  # it still stands there, and still works
                iterator.next()
            assert iterator.current_position == 8

    def test_such_a_sample_can_be_skipped(self):
        def read(i):
            if i == BAD:
                os.abort()
            return plain(i)

        with made(read, on_error="skip") as iterator:
            with pytest.warns(
                UserWarning, match=f"(?s)sample {BAD} of .* replaced by sample 14: it has ended 2 feeders"
            ):
                found = numbers(iterator)
            assert found == [14 if i == BAD else i for i in range(N)]
            assert iterator.skipped == 1


class TestHangs:
    @pytest.mark.parametrize(
        "hang", [lambda: time.sleep(60), lambda: re.match("(a+)+$", "a" * 60 + "b")], ids=["sleep", "GIL held"]
    )
    def test_a_sample_without_end(self, hang):
        def read(i):
            if i == BAD:
                hang()
            return plain(i)

        with made(read, sample_timeout=0.3) as iterator:
            iterator.next()
            start = time.monotonic()
            with pytest.raises(SampleError, match=rf"(?s)sample {BAD} .*\(no end after 0\.3 s\).*in read"):
                iterator.next()
            print(f"fault 5: {hang.__code__.co_names}: an error after {time.monotonic() - start:.1f} s (2 × 0.3 s)")
            assert time.monotonic() - start < 20

    def test_a_hang_that_passes(self, tmp_path):
        path = str(tmp_path / "once")

        def read(i):
            if i == BAD:
                once(path, lambda: time.sleep(60))
            return plain(i)

        with made(read, sample_timeout=0.5) as iterator:
            assert numbers(iterator) == list(range(N))
            assert "no end after" in iterator.stats()["deaths"][0]

    def test_stopped_by_a_signal(self):
        with made(slow) as iterator:
            seconds = seen_after(iterator, lambda: os.kill(pids(iterator)[0], signal.SIGSTOP))
            assert numbers(iterator) == list(range(N))
            print(f"fault 5: SIGSTOP: replaced after {1000 * seconds():.0f} ms")
            assert "stopped by a signal" in iterator.stats()["deaths"][0]

    def test_a_straggler_does_not_hold_up_the_others(self):
        def read(i):
            if i == 0:
                time.sleep(1.0)
            return plain(i)

        with made(read) as iterator:
            start = time.monotonic()
            iterator.next()
            first = time.monotonic() - start
            assert numbers(iterator) == list(range(8, N))
            print(f"fault 6: straggler of 1 s: first {first:.2f} s, all {time.monotonic() - start:.2f} s")
            index, seconds = iterator.stats()["slowest_samples"][0]
            assert (index, seconds >= 1.0) == (0, True)
            assert iterator.stats()["respawns"] == 0


class TestMemory:
    @pytest.mark.parametrize("shared_mem", [None, 64, 100_000])
    def test_samples_larger_than_their_place(self, shared_mem):
        def read(i):
            return np.full(10 + 997 * (i % 9), i, np.int16), i

        with made(read, shared_mem=shared_mem) as iterator:
            for batch in iterator:
                for x, i in batch:
                    assert np.array_equal(x, read(i)[0])
            assert (iterator.stats()["spilled"] > 0) == (shared_mem != 100_000)

    def test_too_little_memory(self):
        with made(plain, shared_mem=1 << 50) as iterator:
            with pytest.raises(FeedError, match=r"needs 8,589,934,592\.0 MiB of shared memory .* available"):
                iterator.next()


class TestStrangers:
    def test_whatever_they_say_is_refused_and_counted(self):
        """Garbage, another version, another token, and the words of an earlier run, on the rank's own socket."""
        with made(slow) as iterator:
            iterator.next()
            address = address_of(iterator)
            context = wire.new_context()
            stranger = wire.spoke(context, b"stranger")
            stranger.connect(address)
            token = b"x" * 16
            said = [
                [b""],
                [b"\xc1"],
                [b"\xdd\xff\xff\xff\xff"],
                [wire.pack(["done", 1])],
                protocol.pack_reply(protocol.Hello(protocol.VERSION, token, 0, os.getpid(), "here", N)),
                protocol.pack_reply(protocol.Hello(99, token, 0, os.getpid(), "here", N)),
                protocol.pack_reply(protocol.Cancelled(1)),
                protocol.pack_reply(protocol.Broken("no")),
                [b"a", b"b", b"c"],
            ]
            for frames in said:
                stranger.send_multipart(frames)
            assert numbers(iterator) == list(range(8, N))
            statistics = iterator.stats()
            context.destroy(linger=0)
            assert statistics["refused"] == len(said)
            assert statistics["respawns"] == 0
            assert any("not one of this run's" in refusal for refusal in statistics["refusals"])

    def test_a_feeder_that_talks_nonsense_is_replaced(self, tmp_path):
        path = str(tmp_path / "once")

        def read(i):
            def spoil():
                protocol.pack_reply = lambda reply: [wire.pack(["done", 10**6, "columns", 0.0, 0.0, 0, b"", 0, []])]

            if i == BAD:
                once(path, spoil)
            return plain(i)

        with made(read) as iterator:
            assert numbers(iterator) == list(range(N))
            assert iterator.stats()["refused"] >= 1
            assert iterator.stats()["respawns"] >= 1


RANK = """
import os, sys, time
import numpy as np
from distrain.datasets import TransformDataset
from distrain.iterators import MultiprocessIterator

def read(i):
    time.sleep(0.01 if i % 2 else 5.0 * (i > 20))
    return np.zeros(1000), i

iterator = MultiprocessIterator(TransformDataset(range(100), read), 8, n_processes=3, shuffle=False)
iterator.next()
print(iterator._feed._crew._nursery.pid, *(f.pid for f in iterator._feed._crew.feeders.values()), flush=True)
{end}
"""


def names():
    """Names of the abstract sockets of this process's feeds."""
    own = f"@distrain-{os.getpid()}-"
    return {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if own in line}


def is_there(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


class TestTheRank:
    @pytest.mark.parametrize(
        "end",
        ["time.sleep(60)", "os._exit(0)", "os.abort()", "sys.exit(3)", "raise ValueError('no')", "pass"],
        ids=["SIGKILL", "exit 0", "abort", "sys.exit", "exception", "end of the program"],
    )
    def test_nothing_is_left_when_it_ends(self, end):
        rank = subprocess.Popen(
            [sys.executable, "-c", RANK.format(end=end)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with rank:
            found = [int(pid) for pid in rank.stdout.readline().split()]
            if "sleep" in end:
                rank.kill()
            rank.wait(30)
            start = time.monotonic()
            while any(map(is_there, found)) and time.monotonic() - start < 10:
                time.sleep(0.005)
            seconds = time.monotonic() - start
        assert len(found) == 4
        assert not any(map(is_there, found))
        print(f"fault 11: {end}: all gone {1000 * seconds:.0f} ms after the rank")
        assert seconds < 5  # the target is one, the machine may be busy


def own_state():
    """Files, threads and children of this process."""
    files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_is_open(fd)]
    kept = sum("memfd:distrain" in file or "pidfd" in file or "socket:" in file or "eventfd" in file for file in files)
    return kept, len(os.listdir("/proc/self/task"))


def fd_is_open(fd):
    with suppress(OSError):
        os.readlink(f"/proc/self/fd/{fd}")
        return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hundred_starts_leave_nothing():
    with made(plain) as iterator:
        iterator.next()
    gc.collect()
    before, mine, sockets = own_state(), [], set()
    for cycle in range(200):
        iterator = MultiprocessIterator(TransformDataset(range(N), plain), 8, n_processes=1, seed=1)
        nursery = iterator._feed._crew._nursery.pid
        mine.append(nursery)
        sockets.add(address_of(iterator).removeprefix("ipc://"))
        if cycle % 20 == 0:
            iterator.next()
            mine += pids(iterator)
            os.kill(mine[-1], (signal.SIGKILL, signal.SIGSTOP)[cycle // 20 % 2])
        elif cycle % 8:
            os.kill(nursery, signal.SIGKILL)
        if cycle % 2:
            iterator.finalize()
        del iterator  # the other half is closed by being forgotten
    end = time.monotonic() + 10
    while any(map(is_there, mine)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(is_there, mine))
    gc.collect()
    assert own_state() == before
    assert len(sockets) == 200
    assert not names() & sockets


class TestAnotherDataset:
    @pytest.mark.parametrize(("length", "batch_size"), [(N + 1, 8), (N, 9)])
    def test_is_refused_and_the_iterator_goes_on_as_it_was(self, length, batch_size):
        serial = SerialIterator(TransformDataset(range(N), plain), 8, seed=5)
        serial.next()
        save_npz(file := io.BytesIO(), serial)
        file.seek(0)
        options = {"n_processes": 1, "shuffle": False}
        iterator = MultiprocessIterator(TransformDataset(range(length), plain), batch_size, **options)
        with pytest.raises(MismatchError, match="when the file was written"):
            load_npz(file, iterator)
        assert concat_examples(iterator.next())[1].tolist() == list(range(batch_size))
        iterator.finalize()


def test_the_arena_cannot_be_shortened():
    found = arena.Arena()
    with pytest.raises(PermissionError):
        os.ftruncate(found.fd, 0)
    found.close()
