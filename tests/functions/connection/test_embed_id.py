import numpy as np
import pytest

import distrain.functions as F
from distrain import errors
from distrain.autograd import Parameter
from tests.functions.cases import check_function, draw


def direct(x, W, ignore_label=None):
    y = np.zeros((*x.shape, W.shape[1]), W.dtype)
    for index in np.ndindex(x.shape):
        if x[index] != ignore_label:
            y[index] = W[x[index]]
    return y


@pytest.mark.parametrize("ignore_label", [None, 1, -1])
@pytest.mark.parametrize("shape", [(), (6,), (3, 4)])
def test_table(shape, ignore_label):
    x = np.random.default_rng(0).integers(0 if ignore_label != -1 else -1, 5, shape)
    (W,) = draw((5, 3))
    check_function(lambda W: F.embed_id(x, W, ignore_label), [W], lambda W: direct(x, W, ignore_label))


def test_rows_used_twice_are_summed_into_the_flat_gradient():
    W = Parameter(np.zeros((4, 2), np.float32))
    place = np.full((4, 2), np.nan, np.float32)
    W.bind(np.zeros((4, 2), np.float32), place)
    F.embed_id(np.array([3, 1, 3], np.int32), W).sum().backward()
    assert W.grad is place
    np.testing.assert_array_equal(place, [[0, 0], [1, 1], [0, 0], [2, 2]])


def test_no_samples():
    W = Parameter(np.ones((4, 2), np.float32))
    F.embed_id(np.zeros((0, 3), np.int32), W).sum().backward()
    np.testing.assert_array_equal(W.grad, np.zeros((4, 2)))


@pytest.mark.parametrize("number", [-1, 4])
def test_refuses_a_number_out_of_range(number):
    with pytest.raises(errors.InvalidType, match=rf"(?s)embed_id.*Argument: x.*0 … 3.*{number} at index \(1, 0\)"):
        F.embed_id(np.array([[0], [number]]), np.zeros((4, 2)))


def test_refuses_floats():
    with pytest.raises(errors.InvalidType, match=r"(?s)embed_id.*Argument: x.*integer"):
        F.embed_id(np.zeros(3), np.zeros((4, 2)))
