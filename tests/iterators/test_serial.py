import random

import numpy as np
import pytest

from distrain import minibatch
from distrain.dataset import Batch, DatasetMixin, concat_examples
from distrain.datasets import (
    ConcatenatedDataset,
    DictDataset,
    SubDataset,
    TransformDataset,
    TupleDataset,
    split_dataset_random,
)
from distrain.errors import DatasetError
from distrain.iterators import SerialIterator
from distrain.serializers import load_npz, save_npz

N = 23
X = np.random.default_rng(0).random((N, 4), dtype=np.float32)
T = np.arange(N, dtype=np.int32)


class OneByOne:
    """The same examples, seen as a dataset of unknown kind."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        assert type(index) is int
        return self.dataset[index]


@pytest.fixture(autouse=True)
def no_announcement():
    yield
    minibatch.announce(None)


ARRAY_BACKED = {
    "tuple": TupleDataset(X, T),
    "single": TupleDataset(X),
    "dict": DictDataset(x=X, t=T),
    "array": X,
    "sub": SubDataset(TupleDataset(X, T), 3, 20),
    "split": split_dataset_random(TupleDataset(X, T), 15, seed=0)[1],
    "concatenated": ConcatenatedDataset(TupleDataset(X[:9], T[:9]), SubDataset(TupleDataset(X, T), 9, N)),
    "strided": TupleDataset(X[::-1, ::2], T[::-1]),
    "sub of concatenated dict": SubDataset(ConcatenatedDataset(DictDataset(x=X, t=T), DictDataset(x=X, t=T)), 5, 40),
}


class TestByColumn:
    @pytest.mark.parametrize("dataset", ARRAY_BACKED.values(), ids=ARRAY_BACKED)
    def test_the_same_as_one_by_one(self, dataset):
        columns = SerialIterator(dataset, 5, seed=3)
        examples = SerialIterator(OneByOne(dataset), 5, seed=3)
        for _ in range(12):
            fast, slow = columns.next(), examples.next()
            assert fast.columns is not None
            assert slow.columns is None
            assert fast == slow
            assert fast.share == slow.share
            np.testing.assert_array_equal(fast.indices, slow.indices)
            np.testing.assert_equal(concat_examples(fast), concat_examples(slow))

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_a_batch_is_the_users_for_good(self, shuffle):
        dataset = TupleDataset(X, T)
        iterator = SerialIterator(dataset, 5, shuffle=shuffle, seed=1)
        held = [iterator.next() for _ in range(10)]
        expected = [(x.copy(), t.copy()) for x, t in map(concat_examples, held)]
        for _ in range(20):
            concat_examples(iterator.next())[0][:] = -1  # neither a batch nor the dataset is behind these
        for batch, (x, t) in zip(held, expected, strict=True):
            np.testing.assert_array_equal(concat_examples(batch)[0], x)
            np.testing.assert_array_equal(concat_examples(batch)[1], t)
        assert X.min() >= 0

    def test_a_subclass_with_its_own_examples_is_asked_for_them(self):
        class Doubled(TupleDataset):
            def __getitem__(self, index):
                x, t = super().__getitem__(index)
                return 2 * x, t

        x, t = concat_examples(SerialIterator(Doubled(X, T), 5, shuffle=False).next())
        np.testing.assert_array_equal(x, 2 * X[:5])

    def test_columns_of_the_wrong_length(self):
        class Wrong(list):
            def columns_at(self, indices):
                return X[:2]

        with pytest.raises(DatasetError, match="columns_at of Wrong gave 2 samples for 3"):
            SerialIterator(Wrong(range(9)), 3).next()


class TestOneByOne:
    @pytest.mark.parametrize("dataset", [list(range(7)), tuple(range(7)), range(7), OneByOne(range(7)), "abcdefg"])
    def test_any_sequence(self, dataset):
        batch = SerialIterator(dataset, 4, shuffle=False).next()
        assert type(batch) is Batch
        assert batch == list(dataset[:4] if not isinstance(dataset, OneByOne) else range(4))

    def test_mixed_shapes_name_the_sample(self):
        data = [np.zeros(3, np.float32)] * 6
        data[4] = np.zeros(2, np.float32)
        batch = SerialIterator(data, 3, order_sampler=lambda order, position: [5, 1, 4, 0, 2, 3]).next()
        with pytest.raises(DatasetError, match=r"example 2 of the batch \(sample 4 of the dataset\) has shape \(2,\)"):
            concat_examples(batch)

    def test_an_error_names_the_sample_and_nothing_is_lost(self):
        class Failing(DatasetMixin):
            broken = True

            def __len__(self):
                return 6

            def get_example(self, i):
                if i == 4 and self.broken:
                    raise OSError("disk")
                return i

        iterator = SerialIterator(Failing(), 4, shuffle=False)
        iterator.next()
        before = minibatch.current()
        with pytest.raises(OSError, match="disk") as info:
            iterator.next()
        assert info.value.__notes__ == ["reading sample 4 of Failing (epoch 0)"]
        assert (iterator.epoch, iterator.current_position, minibatch.current()) == (0, 4, before)
        Failing.broken = False
        assert iterator.next() == [4, 5, 0, 1]


class TestRandomnessInADataset:
    @staticmethod
    def dataset():
        return TransformDataset(range(7), lambda i: (i, np.random.rand(), random.random()))

    def test_depends_on_epoch_and_sample_alone(self):
        seen = {}
        for batch_size in (7, 3, 2):
            iterator = SerialIterator(self.dataset(), batch_size, seed=4)
            drawn = []
            while len(drawn) < 21:
                np.random.rand()
                drawn += list(iterator.next())
            for position, (i, *numbers) in enumerate(drawn[:21]):
                assert seen.setdefault((position // 7, i), numbers) == numbers
        assert len({tuple(numbers) for numbers in seen.values()}) == 21

    def test_leaves_the_users_generators_alone(self):
        np.random.seed(0)
        random.seed(0)
        expected = np.random.rand(), random.random()
        np.random.seed(0)
        random.seed(0)
        SerialIterator(self.dataset(), 3, seed=4).next()
        assert (np.random.rand(), random.random()) == expected

    def test_goes_on_after_a_resume_with_another_seed(self, tmp_path):
        whole = SerialIterator(self.dataset(), 3, seed=4)
        whole.next()
        save_npz(tmp_path / "i.npz", whole)
        other = SerialIterator(self.dataset(), 3, seed=5)
        load_npz(tmp_path / "i.npz", other)
        assert [list(other.next()) for _ in range(4)] == [list(whole.next()) for _ in range(4)]


@pytest.mark.mpi
def test_positions_and_labels_beyond_what_float32_counts(run_ranks):
    script = """
    import numpy as np
    from distrain import comm
    from distrain.dataset import concat_examples
    from distrain.iterators import SerialIterator

    class Numbers:
        def __len__(self):
            return 2**24 + 6

        def __getitem__(self, index):
            return np.float64(index), index + 2**40

    world = comm.world()
    for shuffle in (False, True):
        iterator = SerialIterator(Numbers(), 6, repeat=False, shuffle=shuffle, seed=3)
        iterator.current_position = 2**24
        x, t = concat_examples(next(iterator))
        assert (x.dtype, t.dtype, len(x)) == (np.float64, np.int64, 3)
        assert (t == x + 2**40).all()
        places = sorted(sum(world.allgather_obj(x.tolist()), []))
        assert len(set(places)) == 6
        assert shuffle or places == [2**24 + i for i in range(6)], places
    print("passed", flush=True)
    """
    assert run_ranks(script, 2).check().stdout.count("passed") == 2
