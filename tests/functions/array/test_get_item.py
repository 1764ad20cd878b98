from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw

INDICES = [
    0,
    -1,
    slice(1, 3),
    slice(None, None, -2),
    (0, 1),
    (slice(None), 1),
    (Ellipsis, 0),
    None,
    (1, None, slice(0, 2)),
    [0, 2, 0],
    np.array([2, 2, 2]),
    (np.array([0, 1, 0]), np.array([1, 1, 1])),
    np.array([True, False, True]),
    (slice(None), [0, 0]),
    (np.array([[0, 1], [2, 0]]), 1),
    (0, 1, 2),
    (),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_values_and_derivatives(index):
    check_function(lambda x: x[index], draw((3, 2, 4)), lambda x: x[index], tolerance=2e-2)


def test_elements_that_are_picked_twice_get_both_gradients():
    x = Variable(np.zeros(3))
    F.sum(x[[0, 2, 0]]).backward()
    np.testing.assert_array_equal(x.grad, [2, 0, 1])


def test_variables_as_index():
    x = Variable(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(x[Variable(np.array([1]))].array, [[3, 4, 5]])
    np.testing.assert_array_equal(x[Variable(np.array([1])), Variable(np.array([2]))].array, [5])


def test_select_item():
    t = np.array([1, 0, 1])
    check_function(lambda x: F.select_item(x, t), draw((3, 2)), lambda x: x[np.arange(3), t])


def test_empty():
    check_empty(lambda x: x[1:], (1, 3))
    check_empty(lambda x: x[np.zeros(0, int)], (2, 3))
    check_empty(lambda x: F.select_item(x, np.zeros(0, int)), (0, 3))


def test_wrong_arguments_are_refused():
    with pytest.raises(
        InvalidType, match=r"(?s)get_item .*Expect: an index into shape \(2, 3\), float64\nActual: 2 \("
    ):
        F.get_item(np.ones((2, 3)), 2)
    with pytest.raises(InvalidType, match=r"(?s)select_item .*\(3,\) for \(2, 3\)"):
        F.select_item(np.ones((2, 3)), np.zeros(3, int))
