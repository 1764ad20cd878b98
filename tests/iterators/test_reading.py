"""Samples are read with random numbers of their own, and their errors name them."""

import random
import re

import numpy as np
import pytest

from distrain import rng
from distrain.errors import ArgumentError, DatasetError
from distrain.iterators import seats
from distrain.iterators.reading import Reader, Skipped

N = 20


class Data:
    def __init__(self, make, length=N):
        self.make = make
        self.length = length
        self.reads = []

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        self.reads.append(i)
        return self.make(i)


def drawing(i):
    return i, rng.sample_rng().integers(1 << 60), np.random.rand(), random.random()


def sometimes(i):
    return drawing(i) if i % 7 == 3 else (i, 0, 0, 0)


def run(epoch, *indices):
    return [(epoch, list(indices))]


@pytest.fixture
def seatings(monkeypatch):
    """Samples that the legacy generators were seated for."""
    found = []
    sit = seats.sit

    def noted(seed, epoch, index):
        found.append(index)
        sit(seed, epoch, index)

    monkeypatch.setattr(seats, "sit", noted)
    return found


class TestRandomNumbers:
    @pytest.mark.parametrize("make", [drawing, sometimes])
    def test_depend_on_seed_epoch_and_index_alone(self, make):
        whole = Reader(Data(make), 5).examples(run(2, *range(N)))
        assert len({example[1:] for example in whole}) == (N if make is drawing else 4)
        for batch_size in (1, 3, 7):
            reader = Reader(Data(make), 5)
            for start in reversed(range(0, N, batch_size)):
                indices = range(start, min(N, start + batch_size))
                random.seed(start)
                np.random.seed(start)
                assert reader.examples(run(2, *indices)) == whole[start : start + batch_size]
        assert Reader(Data(make), 5).examples([(2, [3]), (3, [3])])[0] == whole[3]
        assert Reader(Data(make), 5).examples(run(3, 3)) != [whole[3]]
        assert Reader(Data(make), 6).examples(run(2, 3)) != [whole[3]]

    def test_are_seated_only_where_they_are_used(self, seatings):
        own = Data(lambda i: (i, rng.sample_rng().random()))
        reader = Reader(own, 5)
        for epoch in range(3):
            reader.examples(run(epoch, *range(N)))
        assert seatings == []
        assert own.reads == 3 * list(range(N))

    def test_of_a_dataset_that_draws_only_sometimes(self, seatings):
        own = Data(sometimes)
        reader = Reader(own, 5)
        reader.examples(run(0, 0, 1, 2))
        assert seatings == []
        reader.examples(run(0, 2, 3, 4))
        assert seatings == [2, 3, 4]
        assert own.reads == [0, 1, 2, 2, 3, 4, 2, 3, 4]
        reader.examples(run(0, 5, 6))
        assert seatings == [2, 3, 4, 5, 6]  # from now on, all
        assert own.reads[9:] == [5, 6]

    @pytest.mark.parametrize("use", [np.random.rand, random.random, lambda: np.random.seed(1), lambda: random.seed(1)])
    def test_any_use_of_either_generator_is_seen(self, seatings, use):
        Reader(Data(lambda i: use()), 5).examples(run(0, 1))
        assert seatings == [1]

    @pytest.mark.parametrize("make", [drawing, sometimes, lambda i: i, lambda i: np.random.randn()])
    def test_those_of_the_user_are_not_disturbed(self, make):
        np.random.seed(1)
        random.seed(1)
        expected = np.random.randn(3).tolist(), random.gauss(0, 1), random.random()
        np.random.seed(1)
        random.seed(1)
        reader = Reader(Data(make), 5)
        first = np.random.randn()
        reader.examples(run(0, *range(N)))
        rest = np.random.randn(2).tolist()
        gauss = random.gauss(0, 1)
        reader.examples(run(1, *range(N)))
        assert ([first, *rest], gauss, random.random()) == expected

    def test_no_sample_is_read_when_it_is_over(self):
        reader = Reader(Data(lambda i: rng.sample_rng().random()), 5)
        inside = reader.examples(run(0, 1))
        assert rng.sample_rng().random() != inside[0]
        with pytest.raises(ZeroDivisionError):
            Reader(Data(lambda i: 1 / 0), 5).examples(run(0, 1))
        assert rng.sample_rng() is not rng.sample_rng()

    def test_before_is_told_of_every_sample(self):
        told = []
        Reader(Data(lambda i: i), 5).examples([(0, [5, 6]), (1, [7])], told.append)
        assert told == [0, 1, 2]


def failing(*broken, draws=False, error=OSError):
    def make(i):
        number = np.random.rand() if draws else 0
        if i in broken:
            raise error(f"disk {number:.12f}")
        return i, number

    return make


class TestErrors:
    @pytest.mark.parametrize("draws", [False, True])
    def test_name_the_sample(self, draws):
        own = Data(failing(3, draws=draws))
        with pytest.raises(OSError, match="disk") as caught:
            Reader(own, 5).examples(run(2, 1, 3, 5))
        assert caught.value.__notes__ == ["reading sample 3 of Data (epoch 2)"]
        assert own.reads == ([1, 3, 1, 3] if draws else [1, 3])

    def test_while_drawing_are_those_of_the_seated_sample(self):
        messages = set()
        for start in range(4):
            np.random.seed(start)
            with pytest.raises(OSError, match="disk") as caught:
                Reader(Data(failing(3, draws=True)), 5).examples(run(2, 3 - start % 2, 3))
            messages.add(str(caught.value))
        assert len(messages) == 1

    @pytest.mark.parametrize("draws", [False, True])
    def test_leave_the_users_generators_alone(self, draws):
        np.random.seed(1)
        expected = np.random.rand()
        np.random.seed(1)
        with pytest.raises(OSError, match="disk"):
            Reader(Data(failing(3, draws=draws)), 5).examples(run(0, 3))
        assert np.random.rand() == expected

    @pytest.mark.parametrize("draws", [False, True])
    def test_stop_iteration_does_not_end_the_iteration(self, draws):
        with pytest.raises(DatasetError, match=r"reading sample 3 of Data \(epoch 2\) raised StopIteration") as caught:
            Reader(Data(failing(3, draws=draws, error=StopIteration)), 5).examples(run(2, 3))
        assert isinstance(caught.value.__cause__, StopIteration)

    def test_an_unknown_on_error(self):
        with pytest.raises(ArgumentError, match="on_error must be 'raise' or 'skip', not 'ignore'"):
            Reader(Data(drawing), 0, "ignore")


class TestSkipping:
    @pytest.mark.parametrize("draws", [False, True])
    def test_is_the_same_for_all_batch_sizes(self, draws):
        broken = (0, 3, 4, 11, N - 1)
        make = failing(*broken, draws=draws)
        found = {}
        for batch_size in (1, 2, 3, 7, N):
            reader = Reader(Data(make), 5, "skip")
            examples = []
            for start in range(0, N, batch_size):
                examples += reader.examples(run(1, *range(start, min(N, start + batch_size))))
            pairs = [(one.epoch, one.index, one.substitute) for one in reader.skipped]
            assert pairs == [(1, 0, 1), (1, 3, 5), (1, 4, 5), (1, 11, 12), (1, 19, 1)]
            assert all(re.fullmatch(r"OSError: disk 0\.\d+", one.error) for one in reader.skipped)
            found[batch_size] = examples, reader.skipped
        assert all(each == found[1] for each in found.values())
        assert [i for i, _ in found[1][0]] == [1, 1, 2, 5, 5, *range(5, 11), 12, *range(12, 19), 1]

    def test_the_substitute_is_the_sample_itself(self):
        make = failing(3, draws=True)
        (found,) = Reader(Data(make), 5, "skip").examples(run(1, 3))
        assert [found] == Reader(Data(make), 5).examples(run(1, 4))

    def test_stop_iteration_is_skipped_too(self):
        reader = Reader(Data(failing(3, error=StopIteration)), 5, "skip")
        assert reader.examples(run(0, 3)) == [(4, 0)]
        assert reader.skipped[0].error.startswith("DatasetError: reading sample 3 of Data")

    def test_gives_up_when_nothing_can_be_read(self):
        for length, reads in [(N, N), (1, 1), (500, 100)]:
            own = Data(failing(*range(length)), length)
            reader = Reader(own, 5, "skip")
            with pytest.raises(OSError, match="disk") as caught:
                reader.examples(run(0, length - 1))
            assert caught.value.__notes__[0] == f"reading sample {length - 1} of Data (epoch 0)"
            assert "on_error='skip' gives up" in caught.value.__notes__[1]
            assert len(own.reads) == reads
            assert reader.skipped == []

    def test_what_was_noted_before_stays(self):
        reader = Reader(Data(failing(3, draws=True)), 5, "skip")
        reader.skipped.append(Skipped(0, 0, 1, "before"))
        reader.examples(run(0, 3))
        assert [one.index for one in reader.skipped] == [0, 3]
