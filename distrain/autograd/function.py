"""`Function`: the older way to write a function, on arrays only."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from distrain import backend
from distrain.autograd.function_node import FunctionNode
from distrain.autograd.variable import Variable
from distrain.backend import Array
from distrain.errors import BackpropError


class Function:
    """A function with `forward` and `backward` on arrays; it cannot be differentiated twice.

        class Double(distrain.Function):
            def forward(self, inputs):
                x, = inputs
                return 2 * x,

            def backward(self, inputs, grad_outputs):
                gy, = grad_outputs
                return 2 * gy,

        y = Double()(x)

    All inputs are kept for `backward` unless `retain_inputs` says otherwise. Make a new object for every call.
    """

    _node_ref: weakref.ref[_Adapter] | None = None  # weak: the graph owns the node, and the node this object

    def __call__(self, *inputs: Variable | Array) -> Variable | tuple[Variable, ...]:
        """Applies the function; returns one Variable, or a tuple if there are several outputs."""
        node = _Adapter(self)
        self._node_ref = weakref.ref(node)
        outputs = node.apply(inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    @property
    def label(self) -> str:
        """Name for error messages and pictures."""
        return type(self).__name__

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        """Checks shapes and dtypes of the inputs."""

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Computes the outputs; calls `forward_cpu` or `forward_gpu` unless overridden."""
        if any(backend.is_gpu_array(x) for x in inputs):
            return self.forward_gpu(inputs)
        return self.forward_cpu(inputs)

    def forward_cpu(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Computes the outputs on NumPy arrays."""
        raise NotImplementedError(f"{self.label} defines neither forward nor forward_cpu")

    def forward_gpu(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Computes the outputs on CuPy arrays."""
        raise NotImplementedError(f"{self.label} defines neither forward nor forward_gpu")

    def backward(self, inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        """Computes the gradients of all inputs; calls `backward_cpu` or `backward_gpu` unless overridden."""
        if any(backend.is_gpu_array(x) for x in (*inputs, *grad_outputs)):
            return self.backward_gpu(inputs, grad_outputs)
        return self.backward_cpu(inputs, grad_outputs)

    def backward_cpu(self, inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        """Computes the gradients on NumPy arrays; zero gradients unless overridden."""
        return (None,) * len(inputs)

    def backward_gpu(self, inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        """Computes the gradients on CuPy arrays; zero gradients unless overridden."""
        return (None,) * len(inputs)

    def retain_inputs(self, indexes: Sequence[int]) -> None:
        """Called in `forward`: keeps only these inputs for `backward`."""
        self._node.retain_inputs(indexes)

    def retain_outputs(self, indexes: Sequence[int]) -> None:
        """Called in `forward`: keeps these outputs in `output_data`."""
        self._node.retain_outputs(indexes)

    @property
    def output_data(self) -> tuple[Array | None, ...]:
        """The kept outputs, None for the others."""
        return self._node._output_data

    @property
    def _node(self) -> _Adapter:
        node = None if self._node_ref is None else self._node_ref()
        if node is None:
            raise BackpropError(f"{self.label} is not being applied, or the graph of its result is gone")
        return node


class _Adapter(FunctionNode):
    def __init__(self, function: Function) -> None:
        self.function = function

    @property
    def label(self) -> str:
        return self.function.label

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        self.function.check_type_forward(in_types)

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs(range(len(inputs)))
        return self.function.forward(inputs)

    def gradients(
        self, targets: tuple[int, ...], gys: tuple[Any, ...], double: bool, accumulate: bool
    ) -> Sequence[Any]:
        if double:
            raise BackpropError(
                f"{self.label} is a Function, whose backward cannot be differentiated again; make it a FunctionNode"
            )
        missing = (None,) * (len(self.inputs) - len(self._input_data))
        gxs = self.function.backward((*self._input_data, *missing), gys)
        if len(gxs) != len(self.inputs):
            raise BackpropError(f"{self.label}.backward must return {len(self.inputs)} gradients, not {len(gxs)}")
        return self._checked(targets, [gxs[i] for i in targets])
