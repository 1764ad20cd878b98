from __future__ import annotations

import operator

import numpy as np
import pytest

import distrain.functions as F
from distrain import Parameter, Variable
from distrain.errors import InvalidType
from tests.functions.cases import DTYPES, check_empty, check_function, draw

BINARY = [(F.add, operator.add), (F.sub, operator.sub), (F.mul, operator.mul), (F.div, operator.truediv)]
SHAPES = [((3, 2), (3, 2)), ((), ()), ((3, 2), (2,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 3), ())]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(("func", "expected"), BINARY)
def test_of_two_arrays(func, expected, shapes):
    a, b = draw(*shapes)
    check_function(func, [a, np.where(b > 0, b + 0.5, b - 0.5)], expected)


@pytest.mark.parametrize(("func", "expected"), [*BINARY, (F.pow, operator.pow)])
def test_with_a_number_on_either_side(func, expected):
    (x,) = draw((3, 4), low=0.5)
    check_function(lambda x: func(x, 1.5), [x], lambda x: expected(x, 1.5))
    check_function(lambda x: func(1.5, x), [x], lambda x: expected(1.5, x))


@pytest.mark.parametrize("shapes", SHAPES)
def test_pow_of_two_arrays(shapes):
    a, b = draw(*shapes)
    check_function(F.pow, [abs(a) + 0.3, b], operator.pow)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1])
def test_pow_with_a_whole_exponent_takes_negative_bases(exponent):
    (x,) = draw((3, 4))
    x = np.where(x > 0, x + 0.5, x - 0.5)
    check_function(lambda x: x**exponent, [x], lambda x: x ** float(exponent))


def test_pow_of_zero_has_finite_gradients():
    a, b = Variable(np.zeros(2, np.float32)), Variable(np.array([1, 2], np.float32))
    F.sum(a**b + a**0).backward()
    np.testing.assert_array_equal(a.grad, [1, 0])
    np.testing.assert_array_equal(b.grad, [0, 0])


@pytest.mark.parametrize(("func", "expected"), [(F.neg, operator.neg), (F.absolute, abs)])
def test_of_one_array(func, expected):
    check_function(func, draw((3, 4)), expected)
    check_empty(func, (0, 3))


def test_absolute_has_no_gradient_at_zero():
    x = Variable(np.array([-2.0, 0.0, 3.0]))
    F.sum(abs(x)).backward()
    np.testing.assert_array_equal(x.grad, [-1, 0, 1])


@pytest.mark.parametrize(("func", "_"), BINARY)
def test_empty(func, _):
    check_empty(func, (0, 3), (0, 3))
    check_empty(func, (0, 3), (3,))


def test_add_takes_any_number_of_arguments():
    check_function(lambda *xs: F.add(*xs), draw((2, 3), (3,), (2, 1)), lambda a, b, c: a + b + c)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "other", [2, 2.5, np.float64(2.5), np.int64(2), np.full(3, 2.5), np.arange(1, 4), np.array(2.5)]
)
@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
def test_numbers_and_arrays_take_the_dtype_of_the_variable(op, other, dtype):
    array = np.array([1, 2, 3], dtype)
    for x, y in ((Variable(array), other), (other, Variable(array))):
        result = op(x, y)
        assert isinstance(result, Variable)
        assert result.dtype == dtype
        np.testing.assert_allclose(result.array, op(getattr(x, "array", x), getattr(y, "array", y)), rtol=1e-2)


def test_two_variables_of_different_dtypes_meet_in_the_wider_and_get_gradients_of_their_own():
    a, b = Variable(np.ones(3, np.float16)), Variable(np.ones(3, np.float64))
    y = a * b
    assert y.dtype == np.float64
    F.sum(y).backward()
    assert (a.grad.dtype, b.grad.dtype) == (np.float16, np.float64)


def test_a_variable_of_integers_gives_way_to_floats():
    x, count = Variable(np.ones(3, np.float32)), Variable(np.arange(3))
    assert (x * count).dtype == (count * x).dtype == np.float32


def test_the_array_beside_the_variable_gets_no_gradient_and_stays_as_it_is():
    array = np.ones(3)
    x = Variable(np.ones(3, np.float32))
    F.sum(array * x).backward()
    assert array.dtype == np.float64
    np.testing.assert_array_equal(x.grad, np.ones(3))


def test_shapes_that_do_not_broadcast_are_refused_with_both():
    with pytest.raises(InvalidType, match=r"(?s)mul .*Actual: \(3,\) and \(4,\)"):
        Variable(np.ones(3)) * Variable(np.ones(4))


def test_other_types_are_refused():
    with pytest.raises(InvalidType, match=r"(?s)add .*Actual: str"):
        Variable(np.ones(3)) + "1"
    with pytest.raises(InvalidType, match=r"(?s)mul .*Actual: complex"):
        Variable(np.ones(3)) * 1j


def test_a_parameter_without_size_is_refused():
    with pytest.raises(InvalidType, match="has no size yet"):
        Parameter() * Variable(np.ones(3))
