"""`Variable`: an array that remembers how it was computed.

The graph holds `VariableNode`s, not Variables: a node knows shape, dtype and creator but not the numbers, so arrays
that no backward pass needs are freed while the graph is still there.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from distrain import backend
from distrain.autograd import backprop
from distrain.autograd.arithmetic import Arithmetic
from distrain.backend import Array
from distrain.errors import ArgumentError, InvalidType

if TYPE_CHECKING:
    from distrain.autograd.function_node import FunctionNode


class VariableNode:
    """A place in the graph: the result of `creator`, or a leaf.

    Attributes:
        creator: the function that made it; None for a leaf.
        depth: length of the longest path from a leaf.
        requires_grad: whether a backward pass visits it.
        shape, dtype: of the array.
        name: for error messages and pictures.
    """

    __slots__ = ("__weakref__", "creator", "depth", "dtype", "name", "requires_grad", "shape", "variable_ref")

    def __init__(self, array: Array | None, requires_grad: bool, name: str | None = None) -> None:
        self.creator: FunctionNode | None = None
        self.depth = 0
        self.requires_grad = requires_grad
        self.name = name
        self.variable_ref: weakref.ref[Variable] | None = None
        self.shape: tuple[int, ...] = () if array is None else array.shape
        self.dtype = None if array is None else array.dtype

    def variable(self) -> Variable | None:
        """The Variable of this place, if somebody still holds it."""
        return None if self.variable_ref is None else self.variable_ref()

    @property
    def label(self) -> str:
        """Shape and dtype, after the name if there is one."""
        text = f"{self.shape}, {self.dtype}" if self.shape else str(self.dtype)
        return f"{self.name}: {text}" if self.name else text


class Variable(Arithmetic):
    """An array with a place in the graph.

    Args:
        array: NumPy or CuPy array; None for a parameter that has no size yet.
        name: for error messages and pictures.
        grad: initial gradient, same shape and dtype.
        requires_grad: whether gradients flow into it. Arrays of integers and bools never take any.
    """

    _grad: Array | None = None
    _grad_var: Variable | None = None

    def __init__(
        self,
        array: Array | None = None,
        *,
        name: str | None = None,
        grad: Array | None = None,
        requires_grad: bool = True,
    ) -> None:
        if array is not None and not isinstance(array, np.ndarray) and not backend.is_gpu_array(array):
            if not isinstance(array, np.generic):
                raise InvalidType(
                    f"a Variable holds a NumPy or CuPy array, not {type(array).__name__}; "
                    "use Variable(numpy.asarray(x))"
                )
            array = np.asarray(array)
        self._array: Array = array
        self._node = node = VariableNode(array, requires_grad and (array is None or array.dtype.kind in "fc"), name)
        node.variable_ref = weakref.ref(self)
        if grad is not None:
            self.grad = grad

    @classmethod
    def of_node(cls, array: Array, node: VariableNode) -> Variable:
        """A Variable for an existing place in the graph."""
        variable = Variable.__new__(Variable)
        variable._array = array
        variable._node = node
        if node.variable() is None:  # one that holds another array by now still gets the gradient
            node.variable_ref = weakref.ref(variable)
        return variable

    # What it holds

    @property
    def array(self) -> Array:
        """The array; None for a parameter that has no size yet."""
        return self._array

    @array.setter
    def array(self, array: Array) -> None:
        self._array = array
        self._node.shape, self._node.dtype = (array.shape, array.dtype) if array is not None else ((), None)

    data = array

    @property
    def grad(self) -> Array | None:
        """Gradient of what `backward` was called on, same shape and dtype as the array; None before that.

        Raises:
            ArgumentError: on assignment, shape or dtype differ from the array's.
        """
        if self._grad is None and self._grad_var is not None:
            return self._grad_var.array
        return self._grad

    @grad.setter
    def grad(self, grad: Array | None) -> None:
        self._check_grad(grad)
        self._grad, self._grad_var = np.asarray(grad) if isinstance(grad, np.generic) else grad, None

    @property
    def grad_var(self) -> Variable | None:
        """The gradient as a Variable, which has a graph after `backward(enable_double_backprop=True)`."""
        if self._grad_var is None and self._grad is not None:
            self._grad_var = Variable(self._grad)
        return self._grad_var

    @grad_var.setter
    def grad_var(self, grad: Variable | None) -> None:
        self._check_grad(None if grad is None else grad.array)
        self._grad, self._grad_var = None, grad

    def _check_grad(self, grad: Array | None) -> None:
        if grad is None or self._array is None:
            return
        if grad.shape != self.shape or grad.dtype != self.dtype:
            raise ArgumentError(
                f"the gradient of {self!r} must have shape {self.shape} and dtype {self.dtype}, "
                f"not {grad.shape} and {grad.dtype}"
            )

    @property
    def node(self) -> VariableNode:
        """Its place in the graph."""
        return self._node

    @property
    def name(self) -> str | None:
        """For error messages and pictures."""
        return self._node.name

    @name.setter
    def name(self, name: str | None) -> None:
        self._node.name = name

    @property
    def label(self) -> str:
        """Shape and dtype, after the name if there is one."""
        return self._node.label

    @property
    def creator(self) -> FunctionNode | None:
        """The function that computed it; None for a leaf."""
        return self._node.creator

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow into it."""
        return self._node.requires_grad

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._node.shape

    @property
    def dtype(self) -> Any:
        """Dtype of the array."""
        return self._node.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._node.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self._array.size)

    @property
    def xp(self) -> Any:
        """`numpy` or `cupy`."""
        return backend.get_array_module(self._array)

    @property
    def device(self) -> backend.Device:
        """Where the array is."""
        return backend.get_device_from_array(self._array)

    # Gradients

    def cleargrad(self) -> None:
        """Forgets the gradient."""
        self._grad = self._grad_var = None

    def zerograd(self) -> None:
        """Sets the gradient to zeros."""
        self.grad = self.xp.zeros_like(self._array)

    def receive_grad(self, grad: Array) -> None:
        """Adds a gradient to what is there (a leaf's part of the backward pass)."""
        before = self.grad
        total = grad if before is None else before + grad
        self._grad = np.asarray(total) if isinstance(total, np.generic) else total  # NumPy's arrays without axes
        self._grad_var = None

    def grad_place(self) -> Array | None:
        """An array that a backward pass may write the gradient into; a parameter of an optimizer has one."""
        return None

    def addgrad(self, other: Variable) -> None:
        """Adds the gradient of another variable to this one's."""
        if other.grad is not None:
            self.receive_grad(backend.get_device_from_array(self._array).send(other.grad))

    def copydata(self, other: Variable) -> None:
        """Copies the numbers of another variable of the same shape into this array."""
        backend.copyto(self._array, other.array)

    def backward(
        self,
        retain_grad: bool = False,
        enable_double_backprop: bool = False,
        loss_scale: float | None = None,
        *,
        scale: float = 1.0,
        release_graph: bool = False,
    ) -> None:
        """Computes the gradient of this variable with respect to every leaf and adds it to the leaf's `grad`.

        Args:
            retain_grad: also keep the gradients of intermediate variables.
            enable_double_backprop: record the graph of the gradients (`grad_var`), to differentiate them again.
            loss_scale: factor on the initial gradient that the optimizer divides away again (float16 training).
            scale: factor on the initial gradient that stays, such as this rank's part of the minibatch.
            release_graph: take the graph apart on the way, which frees its arrays as soon as they have been used. It
                cannot be gone through again then.

        Raises:
            BackpropError: the variable is not a scalar and has no gradient to start from.
        """
        backprop.backward(self, retain_grad, enable_double_backprop, scale * (loss_scale or 1.0), release_graph)

    def unchain(self) -> None:
        """Cuts this variable off from the function that made it."""
        self._node.creator = None

    def unchain_backward(self) -> None:
        """Cuts off every function that leads to this variable (truncated backpropagation through time)."""
        backprop.unchain_backward(self)

    # Moving

    def to_device(self, device: Any) -> None:
        """Moves array and gradient to a device."""
        target = backend.get_device(device)
        grad = self.grad
        self.array = target.send(self._array)
        self._grad, self._grad_var = target.send(grad), None

    def to_cpu(self) -> None:
        """Moves array and gradient to host memory."""
        self.to_device(-1)

    def to_gpu(self, device: int | None = None) -> None:
        """Moves array and gradient to a GPU, number 0 if none is named."""
        self.to_device(device or 0)

    # Python's protocols

    def __len__(self) -> int:
        return len(self._array)

    def __float__(self) -> float:
        return float(self._array)

    def __int__(self) -> int:
        return int(self._array)

    def __bool__(self) -> bool:
        raise InvalidType("the truth of a Variable is ambiguous: test `.array`, or `is None`")

    def item(self) -> Any:
        """The number that a Variable of one element holds."""
        return self._array.item()

    def __repr__(self) -> str:
        name = f"{self.name}: " if self.name else ""
        return f"variable({name}{self._array!r})"

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> Variable:
        """A leaf of its own that shares array and gradient."""
        return Variable(self._array, name=self.name, grad=self.grad, requires_grad=self.requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Variable:
        """A leaf of its own with copies of array and gradient."""
        grad = self.grad
        return Variable(
            None if self._array is None else self._array.copy(),
            name=self.name,
            grad=None if grad is None else grad.copy(),
            requires_grad=self.requires_grad,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(Variable, name=self.name, grad=self.grad, requires_grad=self.requires_grad)
        return make, (self._array,)  # a leaf, like a copy

    __eq__ = object.__eq__


def result(array: Array, creator: FunctionNode, depth: int) -> Variable:
    """The Variable of an output of a function.

    Args:
        array: what the function gave.
        creator: the function.
        depth: of the Variable's place in the graph.
    """
    if type(array) is np.ndarray and array.dtype.kind == "f":
        variable = Variable.__new__(Variable)  # a shorter way than the constructor's for what nearly all outputs are
        variable._array = array
        variable._node = node = VariableNode(array, True)
        node.variable_ref = weakref.ref(variable)
    else:
        variable = Variable(array)
        node = variable._node
    node.creator, node.depth = creator, depth
    return variable


def as_variable(x: Variable | Array) -> Variable:
    """The argument if it is a Variable, else a Variable around it that takes no gradient."""
    return x if isinstance(x, Variable) else Variable(x, requires_grad=False)


def as_array(x: Variable | Array) -> Array:
    """The array of a Variable; anything else unchanged."""
    return x._array if isinstance(x, Variable) else x
