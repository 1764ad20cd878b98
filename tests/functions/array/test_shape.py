from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw

CASES = [
    (lambda x: F.reshape(x, (4, 6)), lambda x: x.reshape(4, 6)),
    (lambda x: F.reshape(x, (2, -1)), lambda x: x.reshape(2, -1)),
    (F.flatten, np.ravel),
    (F.transpose, np.transpose),
    (lambda x: F.transpose(x, (1, 2, 0)), lambda x: x.transpose(1, 2, 0)),
    (lambda x: F.transpose(x, (-1, 0, 1)), lambda x: x.transpose(-1, 0, 1)),
    (lambda x: F.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1)),
    (lambda x: F.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1)),
    (lambda x: F.moveaxis(x, -1, 1), lambda x: np.moveaxis(x, -1, 1)),
    (lambda x: F.rollaxis(x, 2), lambda x: np.rollaxis(x, 2)),
    (lambda x: F.rollaxis(x, 0, 3), lambda x: np.rollaxis(x, 0, 3)),
    (lambda x: F.expand_dims(x, 1), lambda x: np.expand_dims(x, 1)),
    (lambda x: F.expand_dims(x, -1), lambda x: np.expand_dims(x, -1)),
    (lambda x: F.squeeze(F.reshape(x, (2, 1, 12, 1))), lambda x: x.reshape(2, 12)),
    (lambda x: F.squeeze(F.reshape(x, (2, 1, 12, 1)), 1), lambda x: x.reshape(2, 12, 1)),
    (lambda x: F.squeeze(F.reshape(x, (2, 1, 12, 1)), (1, -1)), lambda x: x.reshape(2, 12)),
]


@pytest.mark.parametrize(("func", "expected"), CASES)
def test_values_and_derivatives(func, expected):
    check_function(func, draw((2, 3, 4)), expected)


def test_of_scalars_and_empty_arrays():
    check_function(lambda x: F.reshape(x, (1, 1)), draw(()), lambda x: x.reshape(1, 1))
    check_function(lambda x: F.reshape(x, ()), draw((1, 1)), lambda x: x.reshape(()))
    check_function(F.transpose, draw(()), lambda x: x)
    check_empty(lambda x: F.reshape(x, (3, 0)), (0, 3))
    check_empty(F.transpose, (0, 3))
    check_empty(F.flatten, (0, 3))


def test_methods_of_variable():
    (x,) = draw((2, 3, 4))
    v = Variable(x)
    for y, want in (
        (v.reshape(6, 4), x.reshape(6, 4)),
        (v.reshape((6, 4)), x.reshape(6, 4)),
        (v.reshape(-1), x.ravel()),
        (v.T, x.T),
        (v.transpose(), x.T),
        (v.transpose(1, 0, 2), x.transpose(1, 0, 2)),
        (v.transpose((2, 0, 1)), x.transpose(2, 0, 1)),
    ):
        np.testing.assert_array_equal(y.array, want)


def test_wrong_arguments_are_refused():
    x = np.ones((2, 3))
    with pytest.raises(InvalidType, match=r"(?s)reshape .*shape \(4, 2\) has\nActual: 6 \(shape \(2, 3\), float64\)"):
        F.reshape(x, (4, 2))
    with pytest.raises(InvalidType, match="reshape"):
        F.reshape(x, (-1, 4))
    with pytest.raises(InvalidType, match="reshape"):
        F.reshape(x, (-1, -1))
    for axes in ((0,), (0, 0), (0, 2)):
        with pytest.raises(InvalidType, match=r"(?s)transpose .*each of the 2 axes"):
            F.transpose(x, axes)
    with pytest.raises(InvalidType, match=r"(?s)squeeze .*axis 0 of shape \(2, 3\)"):
        F.squeeze(x, 0)
    with pytest.raises(InvalidType, match=r"(?s)expand_dims .*-3 … 2 for 2 axes\nActual: 3"):
        F.expand_dims(x, 3)


def test_numbers_of_numpy_as_shapes_and_axes():
    x = Variable(np.ones((1, 6)))
    assert x.reshape(np.int64(6)).shape == (6,)
    assert x.reshape(np.int64(2), np.int64(3)).shape == (2, 3)
    assert F.squeeze(x, np.int64(0)).shape == (6,)
    assert F.sum(x, np.int64(0)).shape == (6,)
