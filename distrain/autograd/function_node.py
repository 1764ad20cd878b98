"""`FunctionNode`: one application of a function, recorded so that it can be differentiated.

Three ways to write a function:

- `FunctionNode`: `forward` takes and gives arrays, `backward` takes and gives Variables and calls other functions,
  so the gradient can be differentiated again. This is what users subclass.
- `Primitive`: the same, but `backward` is written so that it works on arrays and on Variables alike, and the plain
  backward pass hands it arrays. All functions of distrain are of this kind.
- `Function` (in `function.py`): `forward` and `backward` both on arrays; it cannot be differentiated twice.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain import backend
from distrain.autograd.variable import Variable, VariableNode, as_variable, result
from distrain.backend import Array
from distrain.config import config, using_config
from distrain.errors import BackpropError, InvalidType, NonFiniteError

_FIRST = tuple(range(16))


class FunctionNode:
    """One application of a function. Make a new object for every call:

        class Double(distrain.FunctionNode):
            def forward(self, inputs):
                x, = inputs
                return 2 * x,

            def backward(self, target_input_indexes, grad_outputs):
                gy, = grad_outputs
                return 2 * gy,

        y, = Double().apply((x,))

    Attributes:
        inputs: nodes of the inputs.
        outputs: weak references to the nodes of the outputs.
        targets: numbers of the inputs that require a gradient.
        depth: depth of the deepest of them.
    """

    inputs: tuple[VariableNode, ...] = ()
    outputs: tuple[weakref.ref[VariableNode], ...] = ()
    targets: tuple[int, ...] = ()
    depth = 0
    _keep_inputs: tuple[int, ...] = ()
    _keep_outputs: tuple[int, ...] = ()
    _input_data: tuple[Array, ...] = ()  # None where not kept; not further than the last one kept
    _output_data: tuple[Array, ...] = ()

    # Calling it

    def apply(self, inputs: Sequence[Variable | Array]) -> tuple[Variable, ...]:
        """Runs `forward` and records this application, unless no input requires a gradient.

        Args:
            inputs: Variables or arrays.

        Returns:
            One Variable an output.

        Raises:
            InvalidType: an input is not an array, or its shape or dtype does not fit.
        """
        nodes = []
        arrays = []
        targets = []
        depth = -1  # of the deepest input that requires a gradient
        for i, x in enumerate(inputs):
            if isinstance(x, Variable):
                node = x._node
                array = x._array
                if array is None:
                    raise InvalidType(f"{self.label}: {x!r} has no size yet; run the link that initialises it first")
                if node.requires_grad:
                    targets.append(i)
                    if node.depth > depth:
                        depth = node.depth
            else:
                array = x if isinstance(x, np.ndarray) or backend.is_gpu_array(x) else self._as_array(x)
                node = VariableNode(array, False)
            nodes.append(node)
            arrays.append(array)
        data = tuple(arrays)
        if config.type_check:
            self.check_type_forward(data)
        outputs = self.forward(data)
        if type(outputs) is not tuple:
            raise InvalidType(f"{self.label}.forward must return a tuple of arrays, not {type(outputs).__name__}")
        if config.debug:
            self._check_finite(outputs)
        if not targets or not config.enable_backprop:
            return tuple([Variable(y, requires_grad=False) for y in outputs])
        self.inputs = tuple(nodes)
        self.targets = tuple(targets)
        self.depth = depth
        keep = self._keep_inputs
        if keep:
            n = len(keep)
            self._input_data = data[:n] if keep == _FIRST[:n] else _only(keep, data)
        if len(outputs) == 1:  # nearly all functions; a shorter way for them
            variable = result(outputs[0], self, depth + 1)
            self.outputs = (weakref.ref(variable._node),)
            if self._keep_outputs:
                self._output_data = (variable._array,)
            return (variable,)
        variables = tuple([result(y, self, depth + 1) for y in outputs])
        self.outputs = tuple([weakref.ref(variable._node) for variable in variables])
        if self._keep_outputs:
            self._output_data = _only(self._keep_outputs, [variable._array for variable in variables])
        return variables

    def apply1(self, *inputs: Variable | Array) -> Variable:
        """`apply` for a function with one output."""
        return self.apply(inputs)[0]

    def _as_array(self, x: Any) -> Array:
        if isinstance(x, np.generic):
            return np.asarray(x)
        raise InvalidType(
            f"{self.label} takes NumPy or CuPy arrays or Variables, not {type(x).__name__}; use numpy.asarray(x) "
            "or convert the batch with distrain.dataset.concat_examples"
        )

    def _check_finite(self, outputs: tuple[Array, ...]) -> None:
        for i, y in enumerate(outputs):
            if y.dtype.kind == "f" and not bool(backend.get_array_module(y).isfinite(y).all()):
                raise NonFiniteError(f"{self.label} gives NaN or infinity in its output {i}")

    # What a function defines

    @property
    def label(self) -> str:
        """Name for error messages and pictures."""
        return type(self).__name__

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        """Checks shapes and dtypes of the inputs; called before `forward` unless `config.type_check` is off.

        Raises:
            InvalidType: they do not fit.
        """

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

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        """Computes the gradients of some inputs.

        Args:
            target_input_indexes: numbers of the inputs whose gradients are wanted.
            grad_outputs: one Variable an output; None where no gradient reached it.

        Returns:
            As many Variables as there are target indexes; None where the gradient is zero.
        """
        return (None,) * len(target_input_indexes)

    # Keeping arrays for the backward pass

    def retain_inputs(self, indexes: Sequence[int]) -> None:
        """Called in `forward`: keeps these inputs for `backward`. None is kept otherwise."""
        self._keep_inputs = tuple(indexes)

    def retain_outputs(self, indexes: Sequence[int]) -> None:
        """Called in `forward`: keeps these outputs for `backward`. None is kept otherwise."""
        self._keep_outputs = tuple(indexes)

    def get_retained_inputs(self) -> tuple[Variable, ...]:
        """The inputs that were kept, as Variables in the graph, in the order given to `retain_inputs`."""
        return tuple([self._input_variable(i) for i in self._keep_inputs])

    def get_retained_outputs(self) -> tuple[Variable, ...]:
        """The outputs that were kept, as Variables in the graph, in the order given to `retain_outputs`."""
        return tuple([self._output_variable(i) for i in self._keep_outputs])

    def _input_variable(self, index: int) -> Variable:
        node = self.inputs[index]
        variable = node.variable()
        array = self._input_data[index]
        # The Variable may be gone, or hold another array by now; the graph wants the one that was used.
        return variable if variable is not None and variable._array is array else Variable.of_node(array, node)

    def _output_variable(self, index: int) -> Variable:
        array = self._output_data[index]
        node = self.outputs[index]()
        if node is None:  # nobody held the output: give it a new place in the graph
            variable = result(array, self, self.depth + 1)
            refs = list(self.outputs)
            refs[index] = weakref.ref(variable._node)
            self.outputs = tuple(refs)
            return variable
        held = node.variable()
        return held if held is not None else Variable.of_node(array, node)

    # The backward pass

    def gradients(
        self, targets: tuple[int, ...], gys: tuple[Any, ...], double: bool, accumulate: bool
    ) -> Sequence[Any]:
        """Calls `backward` for the backward pass.

        Args:
            targets: numbers of the inputs whose gradients are wanted.
            gys: gradients of the outputs: arrays, or Variables with double backprop.
            double: whether this is a pass with double backprop.
            accumulate: whether results for leaves go into their `grad`.

        Returns:
            Gradients of the targets, arrays or Variables as the gys are.
        """
        if double:
            return self._checked(targets, self.backward(targets, gys))
        variables = tuple([None if gy is None else Variable(gy, requires_grad=False) for gy in gys])
        with using_config("enable_backprop", False):
            gxs = self._checked(targets, self.backward(targets, variables))
        return [None if gx is None else as_variable(gx)._array for gx in gxs]

    def _checked(self, targets: tuple[int, ...], gxs: Sequence[Any]) -> Sequence[Any]:
        if not isinstance(gxs, (tuple, list)) or len(gxs) != len(targets):
            got = len(gxs) if isinstance(gxs, (tuple, list)) else type(gxs).__name__
            raise BackpropError(f"{self.label}.backward must return {len(targets)} gradients for {targets}, not {got}")
        for i, gx in zip(targets, gxs, strict=True):
            if gx is not None and gx.shape != self.inputs[i].shape:
                raise BackpropError(
                    f"{self.label}.backward gives a gradient of shape {gx.shape} for its input {i}, "
                    f"which has shape {self.inputs[i].shape}"
                )
        return gxs

    def unchain(self) -> None:
        """Forgets inputs, outputs and kept arrays, so that they can be freed."""
        for ref in self.outputs:
            node = ref()
            if node is not None:
                node.creator = None
        self.inputs = self.outputs = self.targets = ()
        self._input_data = self._output_data = ()


class Primitive(FunctionNode):
    """A function whose `backward` is written once for arrays and for Variables.

    In `backward`, use operators and methods that arrays and Variables share, the retained data through
    `kept_inputs(gy)` and `kept_outputs(gy)`, and other functions through `on`, which answers in kind. The plain pass
    then runs on raw arrays: no Variable is made and nothing is recorded.
    """

    _writing = False

    def on(self, *inputs: Any) -> Any:
        """Runs this function of one output: arrays in, array out; with a Variable among the inputs, a Variable out."""
        for x in inputs:
            if isinstance(x, Variable):
                return self.apply(inputs)[0]
        return self.forward(inputs)[0]

    def kept_inputs(self, like: Any) -> tuple[Any, ...]:
        """The kept inputs in ascending order: Variables if `like` (a gradient) is one, else arrays."""
        if isinstance(like, Variable):
            return self.get_retained_inputs()
        data = self._input_data
        return data if len(data) == len(self._keep_inputs) else tuple([data[i] for i in self._keep_inputs])

    def kept_outputs(self, like: Any) -> tuple[Any, ...]:
        """The kept outputs in ascending order: Variables if `like` (a gradient) is one, else arrays."""
        if isinstance(like, Variable):
            return self.get_retained_outputs()
        data = self._output_data
        return data if len(data) == len(self._keep_outputs) else tuple([data[i] for i in self._keep_outputs])

    def grad_buffer(self, index: int) -> Array | None:
        """Where the gradient of that input may be written instead of into a new array, if there is such a place.

        In the plain pass a parameter of an optimizer has a place in the flat gradient. A `backward` that can write
        there (`numpy.matmul(..., out=buffer)`) and returns the very buffer saves a copy.
        """
        if not self._writing:
            return None
        ref = self.inputs[index].variable_ref
        leaf = None if ref is None else ref()
        return None if leaf is None or leaf._node.creator is not None else leaf.grad_place()

    def gradients(
        self, targets: tuple[int, ...], gys: tuple[Any, ...], double: bool, accumulate: bool
    ) -> Sequence[Any]:
        """See `FunctionNode.gradients`; hands arrays straight to `backward` in the plain pass."""
        self._writing = accumulate and not double
        return self.backward(targets, gys)


def _only(indexes: tuple[int, ...], arrays: Sequence[Array]) -> tuple[Array | None, ...]:
    return tuple([array if i in indexes else None for i, array in enumerate(arrays)])
