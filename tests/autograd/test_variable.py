from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.autograd import as_array, as_variable
from distrain.errors import ArgumentError, InvalidType


def test_what_it_holds():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = Variable(array, name="x")
    assert x.array is array
    assert x.data is array
    assert (x.shape, x.ndim, x.size, x.dtype, len(x), x.xp) == ((2, 3), 2, 6, np.float32, 2, np)
    assert x.creator is None
    assert x.grad is None
    assert x.grad_var is None
    assert x.requires_grad
    assert x.device.name == "@numpy"
    assert x.label == "x: (2, 3), float32"
    assert Variable(np.float64(1)).label == "float64"
    assert repr(Variable(np.ones(1), name="w")) == "variable(w: array([1.]))"


def test_scalars():
    x = Variable(np.float32(1.5))
    assert isinstance(x.array, np.ndarray)
    assert (x.shape, x.dtype) == ((), np.float32)
    assert (float(x), int(x), x.item()) == (1.5, 1, 1.5)


def test_truth_is_refused_and_equality_is_identity():
    x = Variable(np.ones(1))
    with pytest.raises(InvalidType, match="ambiguous"):
        bool(x)
    assert x in [x]
    assert x != Variable(np.ones(1))
    assert len({x, x}) == 1


@pytest.mark.parametrize("value", [[1.0], 1.0, "text"])
def test_other_types_are_refused(value):
    with pytest.raises(InvalidType, match=f"not {type(value).__name__}; use"):
        Variable(value)


@pytest.mark.parametrize("dtype", [np.int32, bool, np.uint8])
def test_integers_take_no_gradient(dtype):
    assert not Variable(np.ones(2, dtype)).requires_grad


def test_grad_must_fit():
    x = Variable(np.ones((2, 3), np.float32), grad=np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(x.grad, np.zeros((2, 3)))
    for wrong in (np.ones(3, np.float32), np.ones((2, 3))):
        with pytest.raises(ArgumentError, match=r"must have shape \(2, 3\) and dtype float32, not"):
            x.grad = wrong
        with pytest.raises(ArgumentError, match=r"must have shape \(2, 3\) and dtype float32, not"):
            x.grad_var = Variable(wrong)


def test_grad_and_grad_var_are_two_views_of_one_gradient():
    x = Variable(np.ones(2))
    x.grad = np.array([1.0, 2.0])
    assert x.grad_var.array is x.grad
    g = Variable(np.array([3.0, 4.0]))
    x.grad_var = g
    assert x.grad is g.array
    x.cleargrad()
    assert x.grad is None
    assert x.grad_var is None
    x.zerograd()
    np.testing.assert_array_equal(x.grad, [0, 0])
    np.testing.assert_array_equal(x.grad_var.array, [0, 0])


def test_assigning_an_array_changes_shape_and_dtype():
    x = Variable(np.ones(2))
    x.array = np.ones((3, 4), np.float16)
    assert (x.shape, x.dtype) == ((3, 4), np.float16)


def test_numpy_leaves_operators_to_the_variable():
    x = Variable(np.ones(2))
    for y in (np.ones(2) + x, np.ones(2) * x, np.float64(2) - x, np.ones((2, 2)) @ x):
        assert isinstance(y, Variable)
    array = np.ones(2)
    with pytest.raises(TypeError):
        np.exp(x)
    array = array + x
    assert isinstance(array, Variable)


def test_in_place_operators_make_a_new_variable():
    x = Variable(np.ones(2))
    y = x
    y += 1
    assert y is not x
    np.testing.assert_array_equal(x.array, [1, 1])


def test_moving_to_the_cpu_keeps_array_and_gradient():
    x = Variable(np.ones(2), grad=np.zeros(2))
    array = x.array
    for device in (-1, "@numpy", "cpu:1"):
        x.to_device(device)
    x.to_cpu()
    assert x.array is array
    np.testing.assert_array_equal(x.grad, [0, 0])


def test_unchain_cuts_off_the_creator():
    x = Variable(np.ones(2))
    y = x * 2
    z = F.sum(y * 3)
    y.unchain()
    z.backward()
    assert y.creator is None
    assert x.grad is None
    np.testing.assert_array_equal(y.grad, [3, 3])


def test_as_variable_and_as_array():
    x, array = Variable(np.ones(2)), np.ones(2)
    assert as_variable(x) is x
    assert as_variable(array).array is array
    assert not as_variable(array).requires_grad
    assert as_array(x) is x.array
    assert as_array(array) is array


def test_a_copy_shares_nothing_with_the_original():
    x = Variable(np.ones(2), grad=np.ones(2), name="x")
    y = copy.deepcopy(x)
    y.array[0] = 5
    y.grad[0] = 5
    np.testing.assert_array_equal(x.array, [1, 1])
    np.testing.assert_array_equal(x.grad, [1, 1])
    F.sum(y).backward()
    np.testing.assert_array_equal(y.grad, [6, 2])
    np.testing.assert_array_equal(x.grad, [1, 1])


def test_a_pickled_one_is_a_leaf():
    x = Variable(np.array([1, 2], np.float32), name="x", requires_grad=False)
    x.grad = np.ones(2, np.float32)
    y = pickle.loads(pickle.dumps(x))
    assert (y.name, y.requires_grad) == ("x", False)
    np.testing.assert_array_equal(y.array, x.array)
    np.testing.assert_array_equal(y.grad, x.grad)
    assert pickle.loads(pickle.dumps(Variable(y.array) * 2)).creator is None


def test_a_shallow_copy_is_another_leaf_over_the_same_array():
    x = Variable(np.ones(2), name="x")
    y = copy.copy(x * 1.0)
    z = copy.copy(x)
    F.sum(y + z).backward()
    assert z.array is x.array
    assert z.name == "x"
    assert y.creator is None
    assert x.grad is None
    np.testing.assert_array_equal(z.grad, [1, 1])
