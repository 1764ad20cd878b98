import numpy as np
import pytest

from distrain.iterators import NoShuffleOrderSampler, OrderSampler, ShuffleOrderSampler


def test_shuffle_draws_from_its_state():
    sampler = ShuffleOrderSampler(np.random.RandomState(3))
    expected = np.random.RandomState(3).permutation(10)
    np.testing.assert_array_equal(sampler(np.arange(10), 0), expected)


def test_shuffle_takes_a_generator():
    found = ShuffleOrderSampler(np.random.default_rng(3))(np.arange(10), 0)
    np.testing.assert_array_equal(found, np.random.default_rng(3).permutation(10))


def test_no_shuffle():
    np.testing.assert_array_equal(NoShuffleOrderSampler()(np.array([2, 0, 1]), 2), [0, 1, 2])


def test_the_role_is_abstract():
    with pytest.raises(TypeError, match="__call__"):
        OrderSampler()
