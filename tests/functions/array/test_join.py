from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw


@pytest.mark.parametrize(
    ("shapes", "axis"), [(((2, 3), (2, 1)), 1), (((2, 3), (1, 3), (4, 3)), 0), (((2, 3), (2, 3)), -1)]
)
def test_concat(shapes, axis):
    check_function(lambda *xs: F.concat(xs, axis), draw(*shapes), lambda *xs: np.concatenate(xs, axis))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stack_and_separate(axis):
    check_function(lambda *xs: F.stack(xs, axis), draw((2, 3), (2, 3)), lambda *xs: np.stack(xs, axis))
    check_function(lambda x: F.separate(x, axis), draw((2, 3)), lambda x: list(np.moveaxis(x, axis, 0)))


@pytest.mark.parametrize(("cuts", "axis"), [(3, 1), ([1, 4], 1), ([2], -1), (2, 0), ([0, 6], 1), (1, 0)])
def test_split_axis(cuts, axis):
    expected = lambda x: np.split(x, cuts, axis)  # noqa: E731
    check_function(lambda x: F.split_axis(x, cuts, axis), draw((4, 6)), expected)


def test_a_piece_that_is_not_used_has_gradient_zero():
    x = Variable(np.ones((2, 4), np.float32))
    _, y, _ = F.split_axis(x, [1, 3], 1)
    F.sum(y * y).backward()
    np.testing.assert_array_equal(x.grad, [[0, 2, 2, 0]] * 2)


def test_one_piece_without_tuple():
    assert isinstance(F.split_axis(np.ones((2, 2)), 1, 0, force_tuple=False), Variable)


def test_one_array_used_twice():
    x = Variable(np.ones((2, 1)))
    F.sum(F.concat([x, x]) * np.array([1.0, 2.0])).backward()
    np.testing.assert_array_equal(x.grad, [[3], [3]])


def test_empty():
    check_empty(lambda *xs: F.concat(xs, 0), (0, 3), (2, 3))
    check_empty(lambda x: F.split_axis(x, 3, 1), (0, 3))


def test_separate_along_an_axis_without_length():
    assert F.separate(np.ones((2, 0)), 1) == ()


def test_wrong_arguments_are_refused():
    a = np.ones((2, 3))
    with pytest.raises(InvalidType, match=r"(?s)concat .*xs\[1\].*Actual: shape \(3, 3\), float64"):
        F.concat([a, np.ones((3, 3))], 1)
    with pytest.raises(InvalidType, match=r"(?s)concat .*Actual: shape \(2, 3\), float32"):
        F.concat([a, a.astype(np.float32)], 1)
    with pytest.raises(InvalidType, match=r"(?s)concat .*-2 … 1 for 2 axes\nActual: 2"):
        F.concat([a, a], 2)
    with pytest.raises(InvalidType, match=r"(?s)concat .*one array or more"):
        F.concat([])
    with pytest.raises(InvalidType, match=r"(?s)split_axis .*a divisor of axis length 3\nActual: 2"):
        F.split_axis(a, 2, 1)
    with pytest.raises(InvalidType, match=r"(?s)split_axis .*ascending cuts in 0 … 3\nActual: \[2, 1\]"):
        F.split_axis(a, [2, 1], 1)
    with pytest.raises(InvalidType, match=r"(?s)separate .*-2 … 1 for 2 axes\nActual: 2"):
        F.separate(a, 2)
