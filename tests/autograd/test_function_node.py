from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import distrain.functions as F
from distrain import Function, FunctionNode, Variable, grad, no_backprop_mode, using_config
from distrain.autograd import Primitive
from distrain.errors import BackpropError, InvalidType, NonFiniteError
from distrain.gradient_check import check_backward, check_double_backward

X = np.array([0.5, -1.5, 2.0])
GY = np.array([1.0, -2.0, 0.3])


class MulAdd(FunctionNode):
    """x * y + z as a user of Chainer writes it."""

    def check_type_forward(self, in_types):
        if in_types[0].shape != in_types[1].shape:
            raise InvalidType("shapes differ")

    def forward(self, inputs):
        x, y, z = inputs
        self.retain_inputs((0, 1))
        return (x * y + z,)

    def backward(self, target_input_indexes, grad_outputs):
        x, y = self.get_retained_inputs()
        (gw,) = grad_outputs
        assert isinstance(gw, Variable)
        gs = (y * gw, x * gw, gw)
        return tuple(gs[i] for i in target_input_indexes)


class ExpAndSquare(FunctionNode):
    """Two outputs, one of them kept."""

    def forward_cpu(self, inputs):
        (x,) = inputs
        self.retain_inputs((0,))
        self.retain_outputs((0,))
        return np.exp(x), x * x

    def backward(self, target_input_indexes, grad_outputs):
        g_exp, g_square = grad_outputs
        (x,) = self.get_retained_inputs()
        (y,) = self.get_retained_outputs()
        g = 0 * x
        if g_exp is not None:
            g = g + g_exp * y
        if g_square is not None:
            g = g + 2 * g_square * x
        return (g,)


class OldCube(Function):
    def forward_cpu(self, inputs):
        return (inputs[0] ** 3 * inputs[1],)

    def backward_cpu(self, inputs, grad_outputs):
        x, y = inputs
        (g,) = grad_outputs
        return 3 * x * x * y * g, x**3 * g


def returning(forward=None, backward=None):
    class Made(FunctionNode):
        def forward(self, inputs):
            return (inputs[0] * 2,) if forward is None else forward(inputs)

        def backward(self, target_input_indexes, grad_outputs):
            return grad_outputs if backward is None else backward(grad_outputs)

    return Made()


def mul_add(x, y, z):
    return MulAdd().apply((x, y, z))[0]


def test_a_function_node_of_a_user():
    check_backward(mul_add, [X, X + 1, X * 2], GY)
    check_double_backward(mul_add, [X, X + 1, X * 2], GY, [GY, X, X])


def test_arrays_and_variables_as_inputs():
    x = Variable(X)
    y = mul_add(x, X, X)
    y.grad = GY
    y.backward()
    np.testing.assert_allclose(x.grad, X * GY)
    assert MulAdd().apply((X, X, X))[0].creator is None


def test_only_gradients_of_inputs_that_want_one_are_asked_for():
    asked = []

    class Add(FunctionNode):
        def forward(self, inputs):
            return (inputs[0] + inputs[1],)

        def backward(self, target_input_indexes, grad_outputs):
            asked.append(target_input_indexes)
            return grad_outputs * len(target_input_indexes)

    x = Variable(X)
    F.sum(Add().apply((X, x))[0]).backward()
    F.sum(Add().apply((x, Variable(X, requires_grad=False)))[0]).backward()
    F.sum(Add().apply((x, x))[0]).backward()
    assert asked == [(1,), (0,), (0, 1)]
    np.testing.assert_array_equal(x.grad, [4, 4, 4])


def test_several_outputs():
    x = Variable(X)
    a, b = ExpAndSquare().apply((x,))
    F.sum(a * 2 + b).backward()
    np.testing.assert_allclose(x.grad, 2 * np.exp(X) + 2 * X)
    check_backward(lambda x: ExpAndSquare().apply((x,)), X, [GY, X])
    check_double_backward(lambda x: ExpAndSquare().apply((x,)), X, [GY, X], GY)


def test_an_output_that_nobody_holds_has_no_gradient():
    x = Variable(X)
    _, b = ExpAndSquare().apply((x,))
    del _
    gc.collect()
    F.sum(b).backward()
    np.testing.assert_allclose(x.grad, 2 * X)


def test_a_kept_output_that_nobody_holds_is_still_in_the_graph():
    x = Variable(X)
    loss = F.sum(F.exp(x))
    (gx,) = grad([loss], [x], enable_double_backprop=True)
    (ggx,) = grad([F.sum(gx)], [x])
    np.testing.assert_allclose(ggx.array, np.exp(X))


def test_an_input_that_nobody_holds_is_still_in_the_graph():
    x = Variable(X)
    loss = F.sum(mul_add(x * 2, x * 3, x))
    (gx,) = grad([loss], [x], enable_double_backprop=True)
    np.testing.assert_allclose(gx.array, 12 * X + 1)
    (ggx,) = grad([F.sum(gx)], [x])
    np.testing.assert_allclose(ggx.array, [12, 12, 12])


def test_the_backward_pass_sees_the_array_that_forward_used():
    x = Variable(X.copy())
    y = F.sum(x * x)
    x.array = x.array * 100
    y.backward(enable_double_backprop=True)
    np.testing.assert_allclose(x.grad, 2 * X)


def test_arrays_that_are_not_kept_are_freed_while_the_graph_is_alive():
    x = Variable(np.ones((1000, 100), np.float32))
    h = x + 1.0
    big = weakref.ref(h.array)
    loss = F.sum(h + 1.0)
    del h
    assert big() is None
    loss.backward()
    np.testing.assert_array_equal(x.grad, np.ones((1000, 100)))


def test_kept_arrays_are_freed_with_the_graph():
    x = Variable(np.ones((100, 100)))
    h = F.exp(x)
    big, node = weakref.ref(h.array), weakref.ref(h.creator)
    loss = F.sum(h)
    del h
    assert big() is not None
    del loss
    assert node() is None
    assert big() is None


def test_nothing_is_kept_without_a_graph():
    x = Variable(np.ones((100, 100)))
    with no_backprop_mode():
        h = F.exp(x) * 2
        y = F.sum(h)
    assert y.creator is None
    assert not y.requires_grad


def test_function_of_old_style():
    x, y = Variable(X), Variable(X + 1)
    z = OldCube()(x, y)
    z.grad = GY
    z.backward()
    np.testing.assert_allclose(x.grad, 3 * X**2 * (X + 1) * GY)
    np.testing.assert_allclose(y.grad, X**3 * GY)
    check_backward(lambda x, y: OldCube()(x, y), [X, X + 1], GY)
    with pytest.raises(BackpropError, match="OldCube is a Function, whose backward cannot be differentiated again"):
        z.backward(enable_double_backprop=True)


def test_function_keeps_what_it_says():
    class Exp(Function):
        def forward(self, inputs):
            self.retain_inputs(())
            self.retain_outputs((0,))
            return (np.exp(inputs[0]),)

        def backward(self, inputs, grad_outputs):
            assert inputs[0] is None
            return (self.output_data[0] * grad_outputs[0],)

    check_backward(lambda x: Exp()(x), X, GY)


def test_arrays_of_a_function_are_freed_with_its_graph():
    function = OldCube()
    h = Variable(X) * 1.0
    y = function(h, h)
    array, h = weakref.ref(h.array), None
    assert array() is not None
    del y
    assert array() is None
    with pytest.raises(BackpropError, match="OldCube is not being applied"):
        _ = function.output_data


def test_function_must_give_a_gradient_for_each_input():
    class Half(OldCube):
        def backward(self, inputs, grad_outputs):
            return (grad_outputs[0],)

    y = F.sum(Half()(Variable(X), Variable(X)))
    with pytest.raises(BackpropError, match="Half.backward must return 2 gradients, not 1"):
        y.backward()


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (lambda gys: (), r"Made.backward must return 1 gradients for \(0,\), not 0"),
        (lambda gys: gys * 2, "not 2"),
        (lambda gys: gys[0], "not Variable"),
        (lambda gys: (F.sum(gys[0]),), r"gradient of shape \(\) for its input 0, which has shape \(3,\)"),
    ],
)
@pytest.mark.parametrize("double", [False, True])
def test_wrong_gradients_are_refused(backward, message, double):
    y = F.sum(returning(backward=backward).apply((Variable(X),))[0])
    with pytest.raises(BackpropError, match=message):
        y.backward(enable_double_backprop=double)


def test_a_gradient_of_none_is_zero():
    x = Variable(X)
    F.sum(returning(backward=lambda gys: (None,)).apply((x,))[0] + x).backward()
    np.testing.assert_array_equal(x.grad, [1, 1, 1])


def test_forward_must_return_a_tuple():
    with pytest.raises(InvalidType, match=r"Made.forward must return a tuple of arrays, not ndarray"):
        returning(forward=lambda inputs: inputs[0]).apply((X,))


@pytest.mark.parametrize("value", [[1.0], 1.0, None])
def test_inputs_must_be_arrays(value):
    with pytest.raises(InvalidType, match=f"Made takes NumPy or CuPy arrays or Variables, not {type(value).__name__}"):
        returning().apply((value,))


def test_type_check_can_be_turned_off():
    with pytest.raises(InvalidType, match="shapes differ"):
        mul_add(X, X[:1], X)
    with using_config("type_check", False):
        np.testing.assert_allclose(mul_add(X, X[:1], X).array, X * X[0] + X)


def test_debug_finds_nan_and_names_the_function():
    nan = np.array([1.0, np.nan])
    with using_config("debug", True):
        with pytest.raises(NonFiniteError, match="Made gives NaN or infinity in its output 0"):
            returning(forward=lambda inputs: (nan,)).apply((X,))
        y = returning().apply((Variable(X),))[0]
        y.grad = np.array([1.0, np.inf, 0.0])
        with pytest.raises(NonFiniteError, match="backward pass of Made gives NaN or infinity for its input 0"):
            y.backward()


def test_a_function_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="FunctionNode defines neither forward nor forward_cpu"):
        FunctionNode().apply((X,))


class Cube(Primitive):
    kinds: list = []

    def forward(self, inputs):
        self.retain_inputs((0,))
        return (inputs[0] ** 3,)

    def backward(self, target_input_indexes, grad_outputs):
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        self.kinds.append((type(gy), type(x), type(Cube().on(gy))))
        return (3 * x * x * gy,)


def test_primitive_works_on_arrays_in_the_plain_pass_and_on_variables_in_the_recorded_one():
    check_backward(Cube().apply1, X, GY)
    Cube.kinds.clear()
    F.sum(Cube().apply1(Variable(X))).backward()
    F.sum(Cube().apply1(Variable(X))).backward(enable_double_backprop=True)
    assert Cube.kinds == [(np.ndarray,) * 3, (Variable,) * 3]
    check_double_backward(lambda x: Cube().apply1(x), X, GY, GY)


def test_primitive_may_write_into_the_place_of_a_parameter():
    from distrain import Parameter

    class Scale(Primitive):
        def forward(self, inputs):
            self.retain_inputs((0,))
            return (inputs[0] * inputs[1],)

        def backward(self, target_input_indexes, grad_outputs):
            (gy,) = grad_outputs
            (x,) = self.kept_inputs(gy)
            out = self.grad_buffer(1)
            places.append(out)
            return (gy * x,) if out is None else (np.multiply(gy, x, out=out),)

    places: list = []
    w = Parameter(np.ones(3))
    flat, flat_grad = np.zeros(3), np.zeros(3)
    w.bind(flat, flat_grad)
    for want in (X, 2 * X):
        F.sum(Scale().apply1(X, w)).backward()
        assert w.grad is flat_grad
        np.testing.assert_allclose(flat_grad, want)
    grad([F.sum(Scale().apply1(X, w))], [w])
    F.sum(Scale().apply1(X, w * 1.0)).backward()
    w.cleargrad()
    F.sum(Scale().apply1(X, w)).backward(enable_double_backprop=True)
    assert [place is flat_grad for place in places] == [True, False, False, False, False]
    np.testing.assert_allclose(w.grad, X)
