"""Cursor, share and saved state, through SerialIterator."""

import copy
import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrain import minibatch, rng
from distrain.comm import LocalCommunicator
from distrain.errors import ArgumentError, DatasetError, MismatchError
from distrain.iterators import NoShuffleOrderSampler, SerialIterator, ShuffleOrderSampler, order
from distrain.serializers import DictionarySerializer, NpzDeserializer, load_npz, save_npz


class Rank(LocalCommunicator):
    """Stands at a place of a larger world; an iterator asks for no more than rank and size."""

    def __init__(self, rank, size):
        self.rank = rank
        self.size = size


@pytest.fixture(autouse=True)
def no_announcement():
    minibatch.announce(None)
    yield
    minibatch.announce(None)


def taken(iterator, count):
    return [list(map(int, iterator.next())) for _ in range(count)]


class TestContract:
    def test_values_step_by_step(self):
        iterator = SerialIterator(np.arange(5), 2, shuffle=False)
        rows = [(iterator.epoch, iterator.epoch_detail, iterator.previous_epoch_detail, iterator.is_new_epoch)]
        for _ in range(5):
            iterator.next()
            rows.append((iterator.epoch, iterator.epoch_detail, iterator.previous_epoch_detail, iterator.is_new_epoch))
        assert rows == [
            (0, 0.0, None, False),
            (0, 0.4, 0.0, False),
            (0, 0.8, 0.4, False),
            (1, 1.2, 0.8, True),
            (1, 1.6, 1.2, False),
            (2, 2.0, 1.6, True),
        ]

    def test_repeating_fills_up_from_the_next_epoch(self):
        iterator = SerialIterator(np.arange(5), 2, shuffle=False)
        assert taken(iterator, 5) == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]
        assert iterator.repeat

    def test_not_repeating_ends_with_what_is_left(self):
        iterator = SerialIterator(np.arange(5), 2, repeat=False, shuffle=False)
        assert [list(batch) for batch in iterator] == [[0, 1], [2, 3], [4]]
        assert (iterator.epoch, iterator.is_new_epoch, iterator.current_position) == (1, True, 0)
        with pytest.raises(StopIteration):
            iterator.next()
        iterator.reset()
        assert [len(batch) for batch in iterator] == [2, 2, 1]

    @pytest.mark.parametrize("repeat", [True, False])
    def test_a_batch_larger_than_the_dataset(self, repeat):
        iterator = SerialIterator(np.arange(3), 7, repeat=repeat, shuffle=False)
        assert list(iterator.next()) == ([0, 1, 2, 0, 1, 2, 0] if repeat else [0, 1, 2])
        assert iterator.epoch == (2 if repeat else 1)

    def test_every_epoch_has_every_sample_once(self):
        iterator = SerialIterator(np.arange(10), 3, seed=1)
        samples = sum(taken(iterator, 20), [])
        epochs = [samples[i : i + 10] for i in range(0, 60, 10)]
        assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 6

    def test_the_order_is_the_seeds(self):
        first, again, other = (taken(SerialIterator(np.arange(30), 10, seed=seed), 6) for seed in (1, 1, 2))
        assert first == again != other

    def test_the_seed_of_the_job_is_the_default(self):
        expected = taken(SerialIterator(np.arange(30), 10, seed=rng.seed()), 6)
        np.random.rand()
        assert taken(SerialIterator(np.arange(30), 10), 6) == expected

    def test_copies_go_their_own_way(self):
        iterator = SerialIterator(np.arange(10), 3, seed=1, order_sampler=ShuffleOrderSampler())
        iterator.next()
        other = copy.copy(iterator)
        assert taken(iterator, 7) == taken(other, 7)


class TestErrors:
    @pytest.mark.parametrize("batch_size", [0, -1, 2.5, "3", None, True])
    def test_batch_size(self, batch_size):
        with pytest.raises(ArgumentError, match="batch_size must be a positive integer"):
            SerialIterator(np.arange(3), batch_size)

    def test_numpy_batch_size(self):
        assert SerialIterator(np.arange(3), np.int64(2)).batch_size == 2

    @pytest.mark.parametrize("repeat", [True, False])
    @pytest.mark.parametrize("dataset", [[], np.zeros((0, 3))])
    def test_empty_dataset(self, dataset, repeat):
        with pytest.raises(DatasetError, match="is empty"):
            SerialIterator(dataset, 1, repeat=repeat)

    def test_no_length(self):
        with pytest.raises(DatasetError, match="generator has no length"):
            SerialIterator((i for i in range(3)), 1)

    def test_shuffle_and_sampler(self):
        with pytest.raises(ArgumentError, match="exclude each other"):
            SerialIterator(np.arange(3), 1, shuffle=False, order_sampler=NoShuffleOrderSampler())

    def test_unit(self):
        with pytest.raises(ArgumentError, match="'global' or 'per-rank'"):
            SerialIterator(np.arange(3), 1, batch="rank")

    @pytest.mark.parametrize("seed", [-1, 2**63, 1.0])
    def test_seed(self, seed):
        with pytest.raises(ArgumentError, match="seed must be"):
            SerialIterator(np.arange(3), 1, seed=seed)


class TestRanks:
    @given(st.integers(1, 40), st.integers(1, 25), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 3))
    def test_the_union_is_the_batch_of_one_process(self, length, batch_size, size, repeat, shuffle, seed):
        def iterator(rank, size):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = SerialIterator(np.arange(length), batch_size, repeat, shuffle, comm=Rank(rank, size), seed=seed)
                assert made.global_batch_size == batch_size
            return made

        alone = iterator(0, 1)
        ranks = [iterator(rank, size) for rank in range(size)]
        for step in range(12):
            whole = next(alone, None)
            parts = [next(rank, None) for rank in ranks]
            if whole is None:
                assert parts == [None] * size
                break
            union = []
            for part in parts:
                assert part.share.step == step
                assert part.share.start == len(union)
                assert part.share.total == len(whole)
                assert len(part) == max(part.share.count, 1)
                union += list(part)[: part.share.count]
            assert union == list(whole)
            assert sum(part.share.weight for part in parts) == pytest.approx(1)
            assert {rank.epoch_detail for rank in ranks} == {alone.epoch_detail}

    def test_hundred_over_eight(self):
        iterators = [SerialIterator(np.arange(1000), 100, comm=Rank(rank, 8), seed=1) for rank in range(8)]
        assert [len(iterator.next()) for iterator in iterators] == [13, 13, 13, 13, 12, 12, 12, 12]

    def test_a_rank_without_a_sample_gets_the_first_at_no_weight(self):
        iterator = SerialIterator(np.arange(5), 4, repeat=False, shuffle=False, comm=Rank(2, 3))
        assert list(iterator.next()) == [3]
        last = iterator.next()
        assert list(last) == [4]
        assert last.share == minibatch.Share(1, 1, 0, 1, 3)
        assert last.share.weight == 0

    def test_per_rank(self):
        iterator = SerialIterator(np.arange(100), 5, shuffle=False, comm=Rank(1, 4), batch="per-rank")
        assert iterator.global_batch_size == 20
        assert list(iterator.next()) == [5, 6, 7, 8, 9]
        assert iterator.current_position == 20

    def test_too_many_ranks_warn_once_on_rank_0(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for rank in range(4):
                taken(SerialIterator(np.arange(10), 3, comm=Rank(rank, 4)), 3)
        assert len(caught) == 1
        assert "3 samples for 4 ranks" in str(caught[0].message)

    def test_a_scattered_dataset_is_the_ranks_own(self):
        class Scattered(list):
            is_scattered = True

        minibatch.announce(minibatch.Share(0, 0, 1, 1))
        iterator = SerialIterator(Scattered(range(10)), 4, shuffle=False, comm=Rank(1, 2))
        batch = iterator.next()
        assert batch == [0, 1, 2, 3]
        assert batch.share is None
        assert minibatch.current() is None


class TestAnnouncement:
    def test_of_each_batch_and_the_end(self):
        iterator = SerialIterator(np.arange(5), 3, repeat=False, comm=Rank(1, 2))
        assert iterator.next().share is minibatch.current()
        assert minibatch.current() == minibatch.Share(0, 2, 1, 3, 2)
        iterator.next()
        assert minibatch.current() == minibatch.Share(1, 1, 1, 2, 2)
        with pytest.raises(StopIteration):
            iterator.next()
        assert minibatch.current() is None

    def test_steps_start_again_after_reset(self):
        iterator = SerialIterator(np.arange(5), 3, repeat=False)
        list(iterator)
        iterator.reset()
        assert iterator.next().share.step == 0


class TestOrderSampler:
    def test_is_called_as_promised(self):
        calls = []

        def rotate(current, position):
            calls.append((list(current), position))
            return np.roll(current, 1)

        iterator = SerialIterator(np.arange(4), 3, order_sampler=rotate)
        assert taken(iterator, 4) == [[3, 0, 1], [2, 2, 3], [0, 1, 1], [2, 3, 0]]
        assert calls == [([0, 1, 2, 3], 0), ([3, 0, 1, 2], 3), ([2, 3, 0, 1], 2), ([1, 2, 3, 0], 1)]

    def test_may_lengthen_the_epoch(self):
        iterator = SerialIterator(np.arange(3), 4, order_sampler=lambda current, position: [0, 0, 0, 1, 2, 2])
        assert taken(iterator, 3) == [[0, 0, 0, 1], [2, 2, 0, 0], [0, 1, 2, 2]]
        assert iterator.epoch_detail == 2.0

    def test_draws_depend_on_seed_and_epoch_alone(self):
        def shuffle(current, position):
            return np.random.permutation(len(current))

        state = np.random.get_state()[1].copy()
        iterator = SerialIterator(np.arange(8), 8, order_sampler=shuffle, seed=3)
        first = taken(iterator, 3)
        assert np.array_equal(np.random.get_state()[1], state)
        np.random.rand(7)
        assert taken(SerialIterator(np.arange(8), 8, order_sampler=shuffle, seed=3), 3) == first
        assert first[0] != first[1]

    def test_seeded_by_the_user(self):
        sampler = ShuffleOrderSampler(np.random.RandomState(5))
        expected = list(np.random.RandomState(5).permutation(6))
        assert taken(SerialIterator(np.arange(6), 6, order_sampler=sampler), 1) == [expected]

    @pytest.mark.parametrize("made", [[0, 1, 3], [-1, 0, 1], [0.0, 1.0, 2.0], [], [[0, 1, 2]], None])
    def test_no_order(self, made):
        with pytest.raises(ArgumentError, match="order_sampler"):
            SerialIterator(np.arange(3), 1, order_sampler=lambda current, position: made)

    def test_another_length_later(self):
        orders = iter([[0, 1, 2], [0, 1]])
        iterator = SerialIterator(np.arange(3), 3, order_sampler=lambda current, position: next(orders))
        with pytest.raises(ArgumentError, match="2 indices for epoch 1, but 3"):
            iterator.next()


def saved(iterator):
    file = io.BytesIO()
    save_npz(file, iterator)
    file.seek(0)
    return file


def rotate(current, position):
    return np.roll(current, 1 + np.random.randint(3))


class TestState:
    @pytest.mark.parametrize(
        "options", [{}, {"shuffle": False}, {"order_sampler": rotate}], ids=["shuffled", "in order", "sampler"]
    )
    @pytest.mark.parametrize("size", [1, 2, 3])
    @pytest.mark.parametrize("stop_at", [0, 1, 2, 3, 4, 7])
    def test_resume_is_exact_anywhere_at_any_world_size(self, stop_at, size, options):
        whole = SerialIterator(np.arange(10), 5, seed=8, **options)
        before = taken(whole, stop_at)
        file = saved(whole)
        rest = taken(whole, 8)
        assert taken(SerialIterator(np.arange(10), 5, seed=8, **options), stop_at + 8) == before + rest  # unaffected
        ranks = [SerialIterator(np.arange(10), 5, seed=99, comm=Rank(rank, size), **options) for rank in range(size)]
        for iterator in ranks:
            file.seek(0)
            load_npz(file, iterator)
            assert iterator.epoch == stop_at // 2
        assert [sum(parts, []) for parts in zip(*(taken(iterator, 8) for iterator in ranks), strict=True)] == rest

    def test_what_triggers_see(self):
        whole = SerialIterator(np.arange(10), 3, seed=8)
        taken(whole, 4)
        other = SerialIterator(np.arange(10), 3)
        load_npz(saved(whole), other)
        for name in ("epoch", "epoch_detail", "previous_epoch_detail", "is_new_epoch", "current_position"):
            assert getattr(other, name) == getattr(whole, name)
        assert other.next().share.step == 4

    def test_before_the_first_batch(self):
        other = SerialIterator(np.arange(10), 3, seed=1)
        taken(other, 5)
        load_npz(saved(SerialIterator(np.arange(10), 3, seed=8)), other)
        assert other.previous_epoch_detail is None
        assert taken(other, 8) == taken(SerialIterator(np.arange(10), 3, seed=8), 8)

    def test_an_ended_iterator(self):
        whole = SerialIterator(np.arange(4), 3, repeat=False, order_sampler=rotate)
        list(whole)
        other = SerialIterator(np.arange(4), 3, repeat=False, order_sampler=rotate)
        load_npz(saved(whole), other)
        assert list(other) == []
        other.reset()
        assert len(list(other)) == 2

    def test_keys(self):
        writer = DictionarySerializer()
        SerialIterator(np.arange(10), 3, seed=8, comm=Rank(0, 2), batch="per-rank").serialize(writer)
        assert {key: value.tolist() for key, value in writer.target.items()} == {
            "current_position": 0,
            "epoch": 0,
            "is_new_epoch": False,
            "order": [],
            "previous_epoch_detail": -1.0,
            "seed": 8,
            "dataset_length": 10,
            "batch_size": 6,
        }

    @pytest.mark.parametrize(
        ("length", "batch_size", "message"),
        [(11, 3, "samples in the dataset: 10 .* 11 now"), (10, 4, "samples in a minibatch of the job: 3 .* 4 now")],
    )
    def test_another_dataset_or_batch_is_refused(self, length, batch_size, message):
        whole = SerialIterator(np.arange(10), 3, seed=8)
        taken(whole, 2)
        other = SerialIterator(np.arange(length), batch_size, seed=9)
        expected = taken(copy.copy(other), 5)
        with pytest.raises(MismatchError, match=message):
            load_npz(saved(whole), other)
        assert taken(other, 5) == expected

    @pytest.mark.parametrize("changed", [{"current_position": 10}, {"current_position": -1}, {"epoch": -1}])
    def test_an_impossible_cursor_is_refused(self, changed):
        state = {"current_position": 3, "epoch": 0, "is_new_epoch": False, **changed}
        reader = NpzDeserializer({k: np.asarray(v) for k, v in state.items()})
        with pytest.raises(MismatchError, match="the file stands at"):
            reader.load(SerialIterator(np.arange(10), 3))


class TestChainersFile:
    ORDER = np.array([9, 7, 5, 3, 1, 0, 2, 4, 6, 8])

    def load(self, iterator, **more):
        state = {"current_position": 4, "epoch": 1, "is_new_epoch": False, "previous_epoch_detail": 1.2, **more}
        with pytest.warns(UserWarning, match="seed"):
            NpzDeserializer({k: np.asarray(v) for k, v in state.items()}).load(iterator)
        return iterator

    def test_plain(self):
        iterator = self.load(SerialIterator(np.arange(10), 2, shuffle=False))
        assert (iterator.epoch, iterator.epoch_detail, iterator.previous_epoch_detail) == (1, 1.4, 1.2)
        assert taken(iterator, 4) == [[4, 5], [6, 7], [8, 9], [0, 1]]

    def test_its_order_holds_to_the_end_of_the_epoch(self):
        iterator = self.load(SerialIterator(np.arange(10), 4, seed=5), order=self.ORDER)
        assert taken(iterator, 1) == [[1, 0, 2, 4]]
        again = SerialIterator(np.arange(10), 4, seed=6)
        load_npz(saved(iterator), again)  # our file keeps that order
        later = [int(i) for i in order.permutation(5, 2, 10)]
        assert taken(iterator, 3) == taken(again, 3) == [[6, 8, *later[:2]], later[2:6], later[6:]]
        assert saved_order(iterator) is None

    def test_an_order_with_samples_that_are_not_there(self):
        state = {"current_position": 4, "epoch": 1, "is_new_epoch": False, "order": np.arange(10) + 1}
        with pytest.raises(MismatchError, match="1 … 10, but the samples are 0 … 9"):
            NpzDeserializer({k: np.asarray(v) for k, v in state.items()}).load(SerialIterator(np.arange(10), 2))

    def test_an_order_of_another_dataset(self):
        state = {"current_position": 4, "epoch": 1, "is_new_epoch": False, "order": np.arange(9)}
        with pytest.raises(MismatchError, match="order of an epoch: 9 .* 10 now"):
            NpzDeserializer({k: np.asarray(v) for k, v in state.items()}).load(SerialIterator(np.arange(10), 2))


def saved_order(iterator):
    writer = DictionarySerializer()
    iterator.serialize(writer)
    array = writer.target["order"]
    return array if array.dtype.kind == "i" else None
