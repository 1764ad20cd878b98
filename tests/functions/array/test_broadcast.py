from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw


@pytest.mark.parametrize(
    ("small", "large"), [((3, 1), (3, 4)), ((4,), (3, 4)), ((), (2, 3)), ((2, 1, 1), (5, 2, 3, 4))]
)
def test_broadcast_to_and_sum_to_are_each_others_gradient(small, large):
    check_function(lambda x: F.broadcast_to(x, large), draw(small), lambda x: np.broadcast_to(x, large))
    lead = len(large) - len(small)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(small) if n == 1)
    check_function(lambda x: F.sum_to(x, small), draw(large), lambda x: x.sum(axis=axes).reshape(small), tolerance=2e-2)


def test_broadcast():
    check_function(lambda *xs: F.broadcast(*xs), draw((3, 1), (4,), ()), lambda *xs: np.broadcast_arrays(*xs))


def test_the_result_may_be_written_to():
    y = F.broadcast_to(np.zeros(1), (3,))
    y.array[0] = 1
    np.testing.assert_array_equal(y.array, [1, 0, 0])


def test_the_same_shape_is_the_same_variable():
    x = Variable(np.ones(3))
    assert F.broadcast_to(x, (3,)) is x
    assert F.sum_to(x, (3,)) is x


def test_empty():
    check_empty(lambda x: F.broadcast_to(x, (0, 3)), (1, 3))
    check_empty(lambda x: F.sum_to(x, (1, 3)), (0, 3))


def test_wrong_shapes_are_refused():
    with pytest.raises(InvalidType, match=r"(?s)broadcast_to .*repeated to \(3, 4\)\nActual: shape \(2,\), float64"):
        F.broadcast_to(np.ones(2), (3, 4))
    with pytest.raises(InvalidType, match=r"(?s)broadcast_to .*Actual: shape \(3, 4\)"):
        F.broadcast_to(np.ones((3, 4)), (4,))
    with pytest.raises(InvalidType, match=r"(?s)sum_to .*sums to \(2,\)\nActual: shape \(3, 4\), float64"):
        F.sum_to(np.ones((3, 4)), (2,))
    with pytest.raises(InvalidType, match=r"(?s)broadcast .*\(2,\) and \(3,\)"):
        F.broadcast(np.ones(2), np.ones(3))
