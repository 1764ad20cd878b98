"""The stream of minibatches is one and the same, whatever happens to the processes that read it."""

import hashlib
import io
import os
import random
import signal
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from distrain import rng
from distrain.dataset import concat_examples
from distrain.datasets import DictDataset, TransformDataset, TupleDataset
from distrain.iterators import MultiprocessIterator, MultithreadIterator, SerialIterator
from distrain.serializers import load_npz, save_npz

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # feeders cannot import it

N = 50
BATCH = 7
STEPS = 18  # two and a half epochs
X = np.random.default_rng(0).random((N, 6), dtype=np.float32)
T = np.arange(N, dtype=np.int32)


def fed(value, sha):
    """Feeds arrays, and tuples, lists and dicts of them, to a hash, types and shapes included."""
    if isinstance(value, dict):
        for key, part in value.items():
            sha.update(repr(key).encode())
            fed(part, sha)
    elif isinstance(value, (tuple, list)):
        sha.update(f"{type(value).__name__} {len(value)}".encode())
        for part in value:
            fed(part, sha)
    elif isinstance(value, (np.ndarray, np.generic)):
        sha.update(f"{type(value).__name__} {value.dtype.str} {value.shape}".encode() + value.tobytes())
    else:
        sha.update(repr(value).encode())
    return sha


def digest(iterator, steps, collate=concat_examples):
    sha = hashlib.sha256()
    for _ in range(steps):
        batch = iterator.next()
        fed((batch.indices, collate(batch)), sha)
    return sha.hexdigest()


def padded(batch, device=None):
    return concat_examples(batch, device, padding=-1)


def one_by_one(i):
    return X[i], T[i]


def with_numpy(i):
    return X[i] + np.random.rand(), np.random.permutation(5)


def with_random(i):
    return X[i], random.random(), random.randint(0, 9)


def with_sample_rng(i):
    noise = rng.sample_rng()
    return X[i] * noise.random(dtype=np.float32), noise.integers(0, 99, 3)


def ragged(i):
    return X[i, : 1 + i % 5].copy(), np.full((i % 3, 2), i)


def nested(i):
    return {"image": (X[i], [T[i], None]), "name": f"sample {i}", "big": 1 << 80, 3: {"b": b"\0" * (i % 4)}}


def scalars(i):
    return i, i / 3, i % 2 == 0


def made_by(function):
    return TransformDataset(range(N), function)


CASES = {  # dataset, what makes arrays of a batch
    "tuples in arrays": (TupleDataset(X, T), concat_examples),
    "dicts in arrays": (DictDataset(x=X, t=T), concat_examples),
    "an array": (X, concat_examples),
    "one by one": (made_by(one_by_one), concat_examples),
    "np.random": (made_by(with_numpy), concat_examples),
    "random": (made_by(with_random), concat_examples),
    "sample_rng": (made_by(with_sample_rng), concat_examples),
    "dicts": (made_by(lambda i: {"x": X[i], "t": T[i]}), concat_examples),
    "numbers": (made_by(scalars), concat_examples),
    "strings": (made_by(lambda i: ("é" * (i % 4), i)), concat_examples),
    "ragged": (made_by(ragged), padded),
    "nested": (made_by(nested), list),
}


class TestOneStream:
    @pytest.mark.parametrize("n_processes", [1, 2, 7])
    @pytest.mark.parametrize(("dataset", "collate"), CASES.values(), ids=CASES)
    def test_with_any_number_of_feeders(self, dataset, collate, n_processes):
        expected = digest(SerialIterator(dataset, BATCH, seed=5), STEPS, collate)
        with closing_feed(MultiprocessIterator(dataset, BATCH, n_processes=n_processes, seed=5)) as iterator:
            assert digest(iterator, STEPS, collate) == expected
            assert iterator.stats()["refused"] == 0

    @pytest.mark.parametrize(("dataset", "collate"), CASES.values(), ids=CASES)
    def test_with_threads(self, dataset, collate):
        expected = digest(SerialIterator(dataset, BATCH, seed=5), STEPS, collate)
        with closing_feed(MultithreadIterator(dataset, BATCH, n_threads=3, seed=5)) as iterator:
            assert digest(iterator, STEPS, collate) == expected

    def test_with_a_converter_in_the_feeders(self):
        dataset = made_by(ragged)
        expected = digest(SerialIterator(dataset, BATCH, seed=5), STEPS, padded)
        options = {"n_processes": 2, "seed": 5, "converter": padded}
        with closing_feed(MultiprocessIterator(dataset, BATCH, **options)) as iterator:
            assert digest(iterator, STEPS) == expected

    @pytest.mark.parametrize("repeat", [True, False])
    def test_without_shuffling_and_with_a_batch_larger_than_the_dataset(self, repeat):
        serial = SerialIterator(made_by(one_by_one), N + 9, repeat, False, seed=5)
        options = {"n_processes": 2, "seed": 5}
        with closing_feed(MultiprocessIterator(made_by(one_by_one), N + 9, repeat, False, **options)) as iterator:
            assert digest(iterator, 1) == digest(serial, 1)


def closing_feed(iterator):
    iterator.close = iterator.finalize
    return closing(iterator)


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, task.read_text().split())
    return found


def is_alive(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def nurseries():
    found = []
    for pid in children(os.getpid()):
        with suppress(OSError):
            if b"nursery.main" in Path(f"/proc/{pid}/cmdline").read_bytes() and is_alive(pid):
                found.append(pid)
    return found


def feeders():
    return [pid for nursery in nurseries() for pid in children(nursery) if is_alive(pid)]


def working_nurseries():
    return [pid for pid in nurseries() if children(pid)]


class Assassin(threading.Thread):
    """Sends signals to random victims at random moments.

    Args:
        victims: a function that lists those who are there.
        number: of the signal.
        pause: between two signals, seconds on average.
        most: signals to send.
    """

    def __init__(self, victims, number, pause, most):
        super().__init__(daemon=True)
        self.victims, self.number, self.pause, self.most = victims, number, pause, most
        self.kills = self.allowed = 0  # however slow the machine is, there is some work between two kills
        self.over = threading.Event()

    def run(self):
        dice = random.Random(1)
        while not self.over.wait(dice.uniform(0, 2 * self.pause)):
            if self.kills < self.allowed and (there := self.victims()):
                with suppress(ProcessLookupError):
                    os.kill(dice.choice(there), self.number)
                    self.kills += 1


def slow_with_numpy(i):
    time.sleep(0.002)
    return X[i % N] + np.random.rand(), i


def slow_ragged(i):
    time.sleep(0.002)
    return np.full(1 + i % 7, i, np.int16)


def digest_under_attack(dataset, collate, assassin, n_processes=3):
    """The digest of one epoch of 500 samples, in which all signals are sent."""
    steps = 100
    sha = hashlib.sha256()
    options = {"n_processes": n_processes, "seed": 5, "n_prefetch": 2}
    with closing_feed(MultiprocessIterator(dataset, 5, repeat=False, **options)) as iterator:
        assassin.start()
        try:
            for step in range(steps):
                assassin.allowed = assassin.most * (step + 2) // steps
                batch = iterator.next()
                fed((batch.indices, collate(batch)), sha)
                # Those who die while nobody waits for a minibatch are replaced in the next wait.
                while assassin.kills < assassin.most * (step + 1) // steps and assassin.victims():
                    time.sleep(0.002)
        finally:
            assassin.over.set()
            assassin.join()
        assert assassin.kills >= assassin.most - 3
        statistics = iterator.stats()
    print(f"{assassin.kills} signals in one epoch; {statistics['respawns']} feeders replaced")
    assert statistics["refused"] == 0
    return sha.hexdigest(), statistics


class TestUnderAttack:
    @pytest.mark.parametrize(
        ("function", "collate"), [(slow_with_numpy, concat_examples), (slow_ragged, padded)], ids=["arrays", "ragged"]
    )
    def test_a_hundred_feeders_killed_in_one_epoch(self, function, collate):
        dataset = TransformDataset(range(500), function)
        expected = digest(SerialIterator(dataset, 5, repeat=False, seed=5), 100, collate)
        found, statistics = digest_under_attack(dataset, collate, Assassin(feeders, signal.SIGKILL, 0.004, 103))
        assert found == expected
        assert statistics["respawns"] >= 60  # a few were hit twice, or after the last look

    def test_the_nursery_killed(self):
        dataset = TransformDataset(range(500), slow_with_numpy)
        expected = digest(SerialIterator(dataset, 5, repeat=False, seed=5), 100)
        found, statistics = digest_under_attack(
            dataset, concat_examples, Assassin(working_nurseries, signal.SIGKILL, 0.01, 5)
        )
        assert found == expected
        assert statistics["respawns"] >= 3

    @pytest.mark.parametrize("n_processes", [1, 3])
    def test_feeders_stopped(self, n_processes):
        dataset = TransformDataset(range(500), slow_with_numpy)
        expected = digest(SerialIterator(dataset, 5, repeat=False, seed=5), 100)
        assassin = Assassin(feeders, signal.SIGSTOP, 0.01, 3)
        found, statistics = digest_under_attack(dataset, concat_examples, assassin, n_processes)
        assert found == expected
        if n_processes == 1:  # of several, the others may have taken all that it had not begun
            assert any("stopped by a signal" in death for death in statistics["deaths"])


class TestResume:
    @pytest.mark.parametrize("name", ["np.random", "ragged"])
    def test_three_times_in_an_epoch_and_once_at_its_end(self, name):
        dataset, collate = CASES[name]
        whole = hashlib.sha256()
        serial = SerialIterator(dataset, 5, seed=5)
        for _ in range(24):
            batch = serial.next()
            fed((batch.indices, collate(batch)), whole)
        parts = hashlib.sha256()
        file = None
        # An epoch has ten minibatches; the fourth part ends with it.
        for steps, n_processes, seed in ((2, 2, 5), (3, 0, 6), (4, 7, 7), (1, 1, 8), (14, 3, 9)):
            if n_processes:
                iterator = MultiprocessIterator(dataset, 5, n_processes=n_processes, seed=seed)
            else:
                iterator = SerialIterator(dataset, 5, seed=seed)
            if file is not None:
                file.seek(0)
                load_npz(file, iterator)
            for _ in range(steps):
                batch = iterator.next()
                fed((batch.indices, collate(batch)), parts)
            save_npz(file := io.BytesIO(), iterator)
            iterator.finalize()
        assert parts.hexdigest() == whole.hexdigest()

    def test_a_used_iterator_is_sent_back(self):
        options = {"n_processes": 2, "seed": 5}
        with closing_feed(MultiprocessIterator(made_by(ragged), 5, **options)) as iterator:
            digest(iterator, 3, padded)
            save_npz(file := io.BytesIO(), iterator)
            expected = digest(iterator, 9, padded)
            for _ in range(3):
                file.seek(0)
                load_npz(file, iterator)
                assert digest(iterator, 9, padded) == expected
            assert iterator.stats()["respawns"] == iterator.stats()["refused"] == 0

    def test_the_price_is_the_same_everywhere(self):
        length = 10**12

        class Numbers:
            def __len__(self):
                return length

            def __getitem__(self, i):
                return np.int64(i)

        seconds = {}
        for position in (0, 1000, length // 2, length - 1000):
            serial = SerialIterator(Numbers(), 100, seed=5)
            serial.current_position = position
            save_npz(file := io.BytesIO(), serial)
            with closing_feed(MultiprocessIterator(Numbers(), 100, n_processes=1, seed=5)) as iterator:
                digest(iterator, 2)
                file.seek(0)
                start = time.perf_counter()
                load_npz(file, iterator)
                iterator.next()
                seconds[position] = time.perf_counter() - start
        print("resume at " + ", ".join(f"{position}: {1000 * s:.1f} ms" for position, s in seconds.items()))
        assert max(seconds.values()) < 1.0


RANKS = """
import io, sys
import numpy as np
from distrain import rng
from distrain.comm import world
from distrain.dataset import concat_examples
from distrain.datasets import TransformDataset
from distrain.iterators import MultiprocessIterator
from distrain.serializers import load_npz, save_npz

state, out, steps, n_processes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
length = 45

def read(i):
    noise = np.random.rand(3) + rng.sample_rng().random(3)
    return noise, i

iterator = MultiprocessIterator(TransformDataset(range(length), read), 9, n_processes=n_processes, seed=5)
if state != "none":
    load_npz(state, iterator)
comm = world()
noise, index = [], []
for _ in range(steps):
    batch = iterator.next()
    x, i = concat_examples(batch)
    noise.append(x.copy())
    index.append(i.copy())
iterator.finalize()
np.savez(f"{out}/rank{comm.rank}.npz", **{f"x{k}": v for k, v in enumerate(noise)},
         **{f"i{k}": v for k, v in enumerate(index)})
if comm.rank == 0:
    save_npz(f"{out}/state.npz", iterator)
print("done", comm.size, flush=True)
"""


@pytest.mark.mpi
def test_split_over_ranks_and_resumed_at_another_number_of_them(run_ranks, tmp_path):
    def read(i):
        return np.random.rand(3) + rng.sample_rng().random(3), i

    serial = SerialIterator(TransformDataset(range(45), read), 9, seed=5)
    expected = hashlib.sha256()
    found = hashlib.sha256()
    state = "none"
    for part, (ranks, steps, n_processes) in enumerate([(4, 2, 1), (2, 3, 2), (1, 4, 2)]):  # the second ends an epoch
        out = tmp_path / str(part)
        out.mkdir()
        arguments = (state, str(out), str(steps), str(n_processes))
        result = run_ranks(RANKS, ranks, *arguments).check()
        assert result.stdout.count(f"done {ranks}") == ranks
        files = [np.load(out / f"rank{rank}.npz") for rank in range(ranks)]
        for k in range(steps):
            fed(concat_examples(serial.next()), expected)
            fed(tuple(np.concatenate([file[f"{name}{k}"] for file in files]) for name in "xi"), found)
        state = str(out / "state.npz")
    assert found.hexdigest() == expected.hexdigest()
