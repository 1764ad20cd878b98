import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrain.datasets import (
    SubDataset,
    get_cross_validation_datasets,
    get_cross_validation_datasets_random,
    split_dataset,
    split_dataset_n,
    split_dataset_n_random,
    split_dataset_random,
)
from distrain.errors import ArgumentError, DatasetError

TEN = list(range(10, 20))
ORDER = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


class TestSubDataset:
    def test_examples(self):
        part = SubDataset(TEN, 2, 6)
        assert list(part) == [12, 13, 14, 15]
        assert part[-1] == 15
        assert part[1:3] == [13, 14]
        assert part[[3, 0]] == [15, 12]
        with pytest.raises(IndexError):
            part[4]

    def test_order(self):
        assert list(SubDataset(TEN, 2, 4, ORDER)) == [17, 16]
        assert list(SubDataset(SubDataset(TEN, 2, 6, ORDER), 1, 3)) == [16, 15]

    def test_columns(self):
        x = np.arange(20.0).reshape(10, 2)
        np.testing.assert_array_equal(SubDataset(x, 2, 6).columns_at(np.array([3, 0])), x[[5, 2]])
        np.testing.assert_array_equal(SubDataset(x, 2, 6, ORDER).columns_at(np.array([3, 0])), x[[4, 7]])
        assert SubDataset(TEN, 2, 6).columns_at(np.array([0])) is None

    @pytest.mark.parametrize(("start", "finish"), [(-1, 3), (0, 11), (5, 4)])
    def test_outside(self, start, finish):
        with pytest.raises(DatasetError, match="dataset of 10"):
            SubDataset(TEN, start, finish)

    @pytest.mark.parametrize("order", [[0, 1], np.arange(10.0), np.arange(1, 11), np.arange(-1, 9)])
    def test_no_order(self, order):
        with pytest.raises(DatasetError, match="order"):
            SubDataset(TEN, 0, 10, order)


class TestSplits:
    @given(st.integers(0, 10))
    def test_two(self, at):
        first, second = split_dataset(TEN, at)
        assert list(first) == TEN[:at]
        assert list(second) == TEN[at:]

    def test_two_in_an_order(self):
        first, second = split_dataset(TEN, 3, ORDER)
        assert list(first) + list(second) == TEN[::-1]

    @pytest.mark.parametrize("seed", [None, 0, 7])
    def test_at_random(self, seed):
        first, second = split_dataset_random(TEN, 4, seed)
        assert len(first) == 4
        assert sorted([*first, *second]) == TEN
        if seed is not None:
            assert list(split_dataset_random(TEN, 4, seed)[0]) == list(first)

    def test_at_random_leaves_numpys_generator_alone(self):
        state = np.random.get_state()[1].copy()
        split_dataset_random(TEN, 4, 1)
        assert np.array_equal(np.random.get_state()[1], state)

    @given(st.integers(1, 12))
    def test_n(self, n):
        parts = split_dataset_n(TEN, n)
        assert [len(part) for part in parts] == [10 // n] * n
        assert sum(map(list, parts), []) == TEN[: 10 // n * n]

    def test_n_at_random(self):
        parts = split_dataset_n_random(TEN, 2, seed=3)
        assert sorted(sum(map(list, parts), [])) == TEN
        assert list(parts[0]) == list(split_dataset_n_random(TEN, 2, seed=3)[0])

    @pytest.mark.parametrize("at", [-1, 11, 2.0, "1"])
    def test_errors(self, at):
        with pytest.raises(ArgumentError, match="split_at"):
            split_dataset(TEN, at)

    @pytest.mark.parametrize("n", [0, -1, 1.5])
    def test_n_errors(self, n):
        with pytest.raises(ArgumentError, match="n"):
            split_dataset_n(TEN, n)


class TestCrossValidation:
    @given(st.integers(2, 10))
    def test_each_example_is_validated_once(self, n_folds):
        folds = get_cross_validation_datasets(TEN, n_folds)
        assert len(folds) == n_folds
        assert sum((list(test) for _, test in folds), []) == TEN
        for train, test in folds:
            assert sorted([*train, *test]) == TEN

    def test_order(self):
        folds = get_cross_validation_datasets(TEN, 5, ORDER)
        assert list(folds[0][1]) == [19, 18]

    def test_at_random(self):
        folds = get_cross_validation_datasets_random(TEN, 3, seed=1)
        assert sorted(sum((list(test) for _, test in folds), [])) == TEN
        assert [len(test) for _, test in folds] == [3, 3, 4]

    @pytest.mark.parametrize("n_folds", [1, 0, 11, 2.5])
    def test_errors(self, n_folds):
        with pytest.raises(ArgumentError, match="n_folds"):
            get_cross_validation_datasets(TEN, n_folds)
