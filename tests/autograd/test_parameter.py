from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import distrain.functions as F
from distrain import Parameter, Variable, rng, using_config
from distrain.errors import ArgumentError


def normal(array):
    array[...] = np.random.standard_normal(array.shape)


class Float16:
    dtype = np.float16

    def __call__(self, array):
        array[...] = 2


def bound(numbers):
    """A parameter with the flat buffers it is bound to."""
    p = Parameter(np.array(numbers, np.float32))
    flat, flat_grad = np.zeros(6, np.float32), np.full(6, 9, np.float32)
    p.bind(flat[2:4], flat_grad[2:4])
    return p, flat, flat_grad


def test_from_an_array():
    array = np.ones((2, 3), np.float16)
    p = Parameter(array, name="W")
    assert p.array is array
    assert p.is_initialized
    assert (p.shape, p.dtype, p.name, p.requires_grad) == ((2, 3), np.float16, "W", True)
    with pytest.raises(ArgumentError, match=r"shape \(3, 2\) was asked for, but the initial array has shape \(2, 3\)"):
        Parameter(array, (3, 2))


def test_from_a_number_a_function_or_nothing():
    np.testing.assert_array_equal(Parameter(1.5, 3).array, np.full(3, 1.5, np.float32))
    assert Parameter(0, (2, 2)).dtype == np.float32
    assert Parameter(Float16(), (2,)).dtype == np.float16
    assert np.isnan(Parameter(shape=(2,)).array).all()
    with using_config("dtype", np.float64):
        assert Parameter(normal, (2,)).dtype == np.float64


def test_without_size_until_it_is_initialized():
    p = Parameter(normal)
    assert not p.is_initialized
    assert p.array is None
    p.zerograd()
    p.cleargrad()
    assert p.grad is None
    p.initialize((2, 3))
    assert p.is_initialized
    assert p.shape == (2, 3)
    F.sum(p * p).backward()
    np.testing.assert_array_equal(p.grad, 2 * p.array)


def test_the_same_numbers_at_the_same_place_whatever_was_drawn_before():
    def make(noise, late):
        rng.set_seed(7)
        np.random.seed(noise)
        first, second = Parameter(normal, None if late else (3,)), Parameter(normal, (3,))
        np.random.random(noise)
        if late:
            first.initialize((3,))
        return first.array, second.array

    want = make(1, late=False)
    assert not np.array_equal(*want)
    for got in (make(2, late=False), make(3, late=True)):
        np.testing.assert_array_equal(got, want)


def test_drawing_leaves_the_global_generator_alone():
    np.random.seed(3)
    want = np.random.random(4)
    np.random.seed(3)
    Parameter(normal, (5,))
    np.testing.assert_array_equal(np.random.random(4), want)


def test_bind_moves_the_numbers_into_the_flat_buffer():
    p, flat, _ = bound([1, 2])
    np.testing.assert_array_equal(flat, [0, 0, 1, 2, 0, 0])
    assert p.is_bound
    assert p.grad is None
    flat[2] = 5
    np.testing.assert_array_equal(p.array, [5, 2])
    p.array = np.array([7, 8], np.float32)
    np.testing.assert_array_equal(flat, [0, 0, 7, 8, 0, 0])
    assert np.shares_memory(p.array, flat)
    p.array = p.array
    np.testing.assert_array_equal(p.array, [7, 8])


@pytest.mark.parametrize("double", [False, True])
def test_gradients_go_into_the_flat_buffer(double):
    p, _, flat_grad = bound([1, 2])
    for times in (1, 2):
        F.sum(p * 3).backward(enable_double_backprop=double)
        np.testing.assert_array_equal(p.grad, np.full(2, 3.0 * times))
    if not double:
        assert np.shares_memory(p.grad, flat_grad)
        np.testing.assert_array_equal(flat_grad, [9, 9, 6, 6, 9, 9])
    p.cleargrad()
    assert p.grad is None
    F.sum(p).backward()
    np.testing.assert_array_equal(flat_grad, [9, 9, 1, 1, 9, 9])
    p.grad = np.array([4, 5], np.float32)
    np.testing.assert_array_equal(flat_grad, [9, 9, 4, 5, 9, 9])
    p.zerograd()
    np.testing.assert_array_equal(flat_grad, [9, 9, 0, 0, 9, 9])


def test_two_bound_parameters_that_receive_the_same_gradient_array():
    (p, _, p_grad), (q, _, q_grad) = bound([1, 2]), bound([3, 4])
    F.sum(p + q).backward()
    F.sum(p * 5).backward()
    np.testing.assert_array_equal(p_grad[2:4], [6, 6])
    np.testing.assert_array_equal(q_grad[2:4], [1, 1])


def test_a_gradient_from_before_comes_along():
    p = Parameter(np.ones(2))
    p.grad = np.array([1.0, 2.0])
    flat_grad = np.zeros(2)
    p.bind(np.zeros(2), flat_grad)
    np.testing.assert_array_equal(flat_grad, [1, 2])
    assert np.shares_memory(p.grad, flat_grad)


def test_unbind_keeps_the_numbers_and_leaves_the_buffers():
    p, flat, flat_grad = bound([1, 2])
    p.grad = np.array([4, 5], np.float32)
    p.unbind()
    p.unbind()
    flat[:] = flat_grad[:] = 0
    assert not p.is_bound
    np.testing.assert_array_equal(p.array, [1, 2])
    np.testing.assert_array_equal(p.grad, [4, 5])
    F.sum(p).backward()
    np.testing.assert_array_equal(p.grad, [5, 6])


@pytest.mark.parametrize("other", [np.ones(3, np.float32), np.ones(2, np.float64)])
def test_another_shape_or_dtype_leaves_the_buffers(other):
    p, flat, _ = bound([1, 2])
    p.array = other
    assert not p.is_bound
    assert p.array is other
    np.testing.assert_array_equal(flat, [0, 0, 1, 2, 0, 0])


def pickled(p):
    return pickle.loads(pickle.dumps(p))


@pytest.mark.parametrize("make", [copy.deepcopy, copy.copy, Parameter.clone, pickled])
def test_copies_are_parameters_of_their_own_outside_of_the_buffers(make):
    p, _, flat_grad = bound([1, 2])
    p.name, p.update_rule = "W", object()
    p.grad = np.array([4, 5], np.float32)
    q = make(p)
    assert type(q) is Parameter
    assert (q.name, q.is_bound, q.update_rule) == ("W", False, None)
    assert np.shares_memory(q.array, p.array) == (make is copy.copy)
    np.testing.assert_array_equal(q.array, [1, 2])
    np.testing.assert_array_equal(q.grad, [4, 5])
    F.sum(q).backward()
    np.testing.assert_array_equal(q.grad, [5, 6])
    np.testing.assert_array_equal(flat_grad[2:4], [4, 5])


@pytest.mark.parametrize("make", [copy.deepcopy, pickled])
def test_a_copy_of_one_without_size_gets_the_same_numbers(make):
    p = Parameter(normal)
    q = make(p)
    p.initialize((3,))
    q.initialize((3,))
    np.testing.assert_array_equal(p.array, q.array)


def test_a_copy_of_a_frozen_one_is_frozen():
    p = Parameter(np.ones(2))
    p.node.requires_grad = False
    assert not copy.deepcopy(p).requires_grad
    assert not pickled(p).requires_grad


def test_update_calls_the_rule():
    class Rule:
        def update(self, param):
            param.array = param.array + 1

    p = Parameter(np.zeros(2))
    p.update()
    p.update_rule = Rule()
    p.update()
    np.testing.assert_array_equal(p.array, [1, 1])


def test_gradients_of_scalars_are_arrays():
    p = Parameter(np.array(2.0))
    for _ in range(2):
        (p * 3.0).backward()
        assert isinstance(p.grad, np.ndarray)
    assert p.grad == 6


def test_moving_to_the_cpu_keeps_it_bound():
    p, flat, _ = bound([1, 2])
    p.to_device("cpu:1")
    assert p.is_bound
    assert np.shares_memory(p.array, flat)
    late = Parameter(normal)
    late.to_device(-1)
    late.initialize((2,))
    assert isinstance(Variable(late.array), Variable)
    assert late.device.name == "@numpy"
