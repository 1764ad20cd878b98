import copy
import random
import threading
import time

import numpy as np
import pytest

from distrain import rng
from distrain.dataset import concat_examples
from distrain.datasets import TransformDataset, TupleDataset
from distrain.errors import ArgumentError
from distrain.iterators import MultithreadIterator, SerialIterator, SkippedSampleWarning
from distrain.serializers import load_npz, save_npz

N = 31


class Sleepy:
    """Waits for each sample, and keeps book of it."""

    def __init__(self, seconds=0.0, draw=None, broken=()):
        self.seconds, self.draw, self.broken = seconds, draw, broken
        self.threads = set()

    def __len__(self):
        return N

    def __getitem__(self, i):
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        if i in self.broken:
            raise OSError(f"sample {i}")
        noise = 0.0 if self.draw is None else self.draw(i)
        return np.full(3, i + noise, np.float64), i


def sometimes(i):
    return np.random.rand() if i % 7 == 3 else 0.0


DRAWS = {
    "nothing": None,
    "sample_rng": lambda i: rng.sample_rng().random(),
    "numpy": lambda i: np.random.rand(),
    "numpy, normal": lambda i: np.random.randn(),
    "python": lambda i: random.random(),
    "sometimes": sometimes,
}


def stream(iterator, count):
    return [[column.tobytes() for column in concat_examples(iterator.next())] for _ in range(count)]


@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_same_minibatches_as_serially(draw, threads):
    expected = stream(SerialIterator(Sleepy(draw=draw), 5, seed=2), 15)
    with MultithreadIterator(Sleepy(draw=draw), 5, n_threads=threads, seed=2) as iterator:
        assert stream(iterator, 15) == expected


def test_whatever_the_training_draws():
    expected = stream(SerialIterator(Sleepy(draw=DRAWS["sample_rng"]), 5, seed=2), 15)
    dataset = Sleepy(draw=DRAWS["sample_rng"])
    np.random.seed(5)
    wanted = np.random.rand(15)
    np.random.seed(5)
    with MultithreadIterator(dataset, 5, n_threads=2, seed=2) as iterator:
        for row, number in zip(expected, wanted, strict=True):
            assert stream(iterator, 1) == [row]
            assert np.random.rand() == number
    assert len(dataset.threads) == 3  # ours, for the first minibatch, and two more


def test_the_users_numbers_are_not_disturbed():
    np.random.seed(5)
    random.seed(5)
    wanted = np.random.rand(), random.random()
    np.random.seed(5)
    random.seed(5)
    with MultithreadIterator(Sleepy(draw=DRAWS["numpy"]), 5, n_threads=2, seed=2) as iterator:
        stream(iterator, 4)
    assert (np.random.rand(), random.random()) == wanted


def test_waiting_is_shared_and_happens_ahead():
    with MultithreadIterator(Sleepy(0.02), 8, n_threads=8, seed=2) as iterator:
        iterator.next()
        time.sleep(0.5)  # the training
        start = time.perf_counter()
        iterator.next()
        assert time.perf_counter() - start < 0.1  # and not 8 times 0.02


def test_arrays_are_read_by_column():
    data = TupleDataset(np.arange(N), np.arange(N))
    assert MultithreadIterator(data, 5).next().columns is not None


def test_resume_in_the_middle(tmp_path):
    whole = MultithreadIterator(Sleepy(draw=DRAWS["sample_rng"]), 5, n_threads=2, seed=2)
    stream(whole, 3)
    save_npz(tmp_path / "i.npz", whole)
    rest = stream(whole, 8)
    for other in (
        MultithreadIterator(Sleepy(draw=DRAWS["sample_rng"]), 5, n_threads=3, seed=9),
        SerialIterator(Sleepy(draw=DRAWS["sample_rng"]), 5, seed=9),
    ):
        other.next()
        load_npz(tmp_path / "i.npz", other)
        assert stream(other, 8) == rest
        other.finalize()
    whole.finalize()


def test_the_error_of_the_first_sample_at_its_place():
    with MultithreadIterator(Sleepy(broken=(17, 12, 14)), 5, n_threads=3, shuffle=False) as iterator:
        assert [list(map(int, t)) for t in (concat_examples(iterator.next())[1] for _ in range(2))] == [
            [0, 1, 2, 3, 4],
            [5, 6, 7, 8, 9],
        ]
        for _ in range(2):  # it stays there
            with pytest.raises(OSError, match="sample 12") as info:
                iterator.next()
            assert info.value.__notes__ == ["reading sample 12 of Sleepy (epoch 0)"]


@pytest.mark.parametrize("draw", [DRAWS["nothing"], DRAWS["numpy"]])
def test_skipping(draw):
    def taken(iterator):
        with pytest.warns(SkippedSampleWarning, match="sample 1[23] of Sleepy"), iterator:
            rows = stream(iterator, 7)
        return rows, iterator.skipped

    options = {"shuffle": False, "on_error": "skip", "seed": 3}
    data = Sleepy(draw=draw, broken=(12, 13))
    assert taken(MultithreadIterator(data, 5, n_threads=3, **options)) == taken(SerialIterator(data, 5, **options))


def test_a_copy_has_threads_of_its_own():
    iterator = MultithreadIterator(Sleepy(), 5, n_threads=2, seed=2)
    stream(iterator, 2)
    other = copy.copy(iterator)
    assert stream(iterator, 4) == stream(other, 4)
    iterator.finalize()
    assert stream(other, 2)
    other.finalize()


def test_reset_and_end():
    iterator = MultithreadIterator(Sleepy(), 10, repeat=False, n_threads=2, seed=2)
    first = [len(batch) for batch in iterator]
    iterator.reset()
    assert [len(batch) for batch in iterator] == first == [10, 10, 10, 1]
    iterator.finalize()


def test_no_thread_is_left():
    before = threading.active_count()
    for finalize in (True, False):
        iterator = MultithreadIterator(Sleepy(), 5, n_threads=4)
        stream(iterator, 3)
        assert threading.active_count() == before + 4
        if finalize:
            iterator.finalize()
        del iterator
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() == before


@pytest.mark.parametrize("n_threads", [0, -1, 2.5, None, True])
def test_number_of_threads(n_threads):
    with pytest.raises(ArgumentError, match="n_threads must be a positive integer"):
        MultithreadIterator(TransformDataset([1], abs), 1, n_threads=n_threads)
