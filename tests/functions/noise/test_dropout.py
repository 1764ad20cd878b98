import numpy as np
import pytest

import distrain.functions as F
from distrain import errors, gradient_check, minibatch, rng
from distrain.autograd import Variable
from distrain.config import using_config


@pytest.fixture(autouse=True)
def seeded():
    rng.set_seed(7)
    yield
    minibatch.announce(None)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_share_and_scale(dtype, ratio):
    x = Variable(np.ones((200, 100), dtype))
    y = F.dropout(x, ratio)
    assert y.dtype == dtype
    assert set(np.unique(y.array)) == {dtype(0), dtype(1 / (1 - ratio))}
    assert abs((y.array == 0).mean() - ratio) < 0.02
    y.grad = np.ones_like(y.array)
    y.backward()
    np.testing.assert_array_equal(x.grad, y.array)  # the same elements, the same factor
    assert x.grad.dtype == dtype


def test_derivatives():
    function = F.dropout

    def repeatable(x):
        minibatch.announce(minibatch.Share(3, 0, 4, 4))
        return function(x, 0.4)

    x, gy, gg = np.random.default_rng(0).normal(size=(3, 4, 5))
    gradient_check.check_backward(repeatable, x, gy, dtype=np.float64)
    gradient_check.check_double_backward(lambda x: repeatable(x) * x, x, gy, gg, dtype=np.float64)


def test_ranks_draw_their_part_of_the_jobs_mask():
    def mask(start, count):
        minibatch.announce(minibatch.Share(5, start, count, 10))
        return F.dropout(np.ones((count, 7), np.float32)).array

    whole = mask(0, 10)
    np.testing.assert_array_equal(np.concatenate([mask(0, 4), mask(4, 3), mask(7, 3)]), whole)


def test_two_calls_differ():
    x = np.ones((20, 20), np.float32)
    assert (F.dropout(x).array != F.dropout(x).array).any()


def test_does_nothing_when_not_training():
    x = Variable(np.ones((3, 2), np.float32))
    with using_config("train", False):
        assert F.dropout(x, 0.9) is x
    assert F.dropout(x, 0.0) is x


def test_no_samples():
    x = Variable(np.ones((0, 2), np.float32))
    y = F.dropout(x)
    y.grad = y.array
    y.backward()
    assert x.grad.shape == (0, 2)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_refuses_a_ratio(ratio):
    with pytest.raises(errors.ArgumentError, match=r"ratio in \[0, 1\), not "):
        F.dropout(np.ones((2, 2)), ratio)


def test_refuses_integers():
    with pytest.raises(errors.InvalidType, match=r"(?s)dropout.*Argument: x.*floating point.*int64"):
        F.dropout(np.ones((2, 2), np.int64))
