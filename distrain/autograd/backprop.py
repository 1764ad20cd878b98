"""The backward pass.

One loop, `visit`, serves `Variable.backward` and `grad`: functions are visited from the deepest up, each once, when all
gradients of its outputs are there. The plain pass hands raw arrays around and records nothing; with double backprop
the gradients are Variables and the functions' `backward` builds a graph like any forward computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np

from distrain import backend
from distrain.config import config, using_config
from distrain.errors import BackpropError, NonFiniteError

if TYPE_CHECKING:
    from distrain.autograd.function_node import FunctionNode
    from distrain.autograd.variable import Variable, VariableNode

Gradients = dict["VariableNode", Any]
"""Gradients by place in the graph: arrays in the plain pass, Variables with double backprop."""


def backward(root: Variable, retain_grad: bool, double: bool, scale: float, release: bool) -> None:
    """See `Variable.backward`."""
    node = root._node
    if node.creator is None:
        return
    start: Any = root.grad
    if start is None:
        if root.size != 1:
            raise BackpropError(
                f"backward() starts from a scalar, but this variable has shape {root.shape}; "
                "set its `grad` first, or call it on a sum or mean"
            )
        start = root._grad = root.xp.asarray(1, node.dtype).reshape(node.shape)
    if scale != 1.0:
        with np.errstate(over="ignore"):  # a loss scale that is too large for float16 is noticed in the gradients
            start = start * root.dtype.type(scale)
    if double:
        start = root.grad_var
        if start is not None and scale != 1.0:
            start = start * scale
        with using_config("enable_backprop", True):
            visit({node: start}, double=True, retain_grad=retain_grad)
    else:
        visit({node: start}, double=False, retain_grad=retain_grad, release=release)


def visit(
    grads: Gradients,
    *,
    double: bool,
    retain_grad: bool,
    within: set[VariableNode] | None = None,
    wanted: set[VariableNode] | None = None,
    release: bool = False,
) -> Gradients:
    """Carries gradients from the outputs to the leaves.

    Args:
        grads: initial gradients by node; used up.
        double: gradients are Variables and the pass itself is recorded.
        retain_grad: keep the gradients of intermediate variables in their `grad`.
        within: visit only these nodes; None visits all that require gradients and adds to the leaves' `grad`.
        wanted: nodes whose gradients are returned.
        release: take functions apart when they have been visited.
    """
    heap: list[tuple[int, int, FunctionNode]] = []
    seen: set[FunctionNode] = set()
    found: Gradients = {}
    debug = config.debug

    for node in grads:
        creator = node.creator
        if creator is not None and creator not in seen:
            seen.add(creator)
            heappush(heap, (-creator.depth, len(seen), creator))
    while heap:
        function = heappop(heap)[2]
        outputs = function.outputs
        gys: tuple[Any, ...]
        if len(outputs) == 1:  # nearly all functions; a shorter way for them
            gys = (grads.pop(outputs[0](), None),)  # type: ignore[arg-type]    # None, for a dead one, is never there
        else:
            gys = tuple([grads.pop(ref(), None) for ref in outputs])  # type: ignore[arg-type]
        if retain_grad or wanted is not None:
            for ref, gy in zip(outputs, gys, strict=True):
                y = ref()
                if y is None or gy is None:
                    continue
                if wanted is not None and y in wanted:
                    found[y] = gy
                if retain_grad and (variable := y.variable()) is not None:
                    _store(variable, gy, double)
        inputs = function.inputs
        targets = function.targets
        if within is not None:
            targets = tuple([i for i in targets if inputs[i] in within])
        if not targets:
            continue
        gxs = function.gradients(targets, gys, double, within is None)
        if debug:
            _check_finite(function, gxs)
        for i, gx in zip(targets, gxs, strict=True):
            if gx is None:
                continue
            x = inputs[i]
            creator = x.creator
            if creator is not None or within is not None:
                grads[x] = gx if x not in grads else grads[x] + gx
                if creator is not None and creator not in seen:
                    seen.add(creator)
                    heappush(heap, (-creator.depth, len(seen), creator))
            elif x.variable_ref is None or (leaf := x.variable_ref()) is None:
                continue
            elif double:
                leaf.grad_var = gx if leaf.grad_var is None else leaf.grad_var + gx
            else:
                leaf.receive_grad(gx)
        if release:
            function.unchain()
    if wanted is not None:
        found.update({node: g for node, g in grads.items() if node in wanted})
    return found


def _store(variable: Variable, gy: Any, double: bool) -> None:
    if double:
        variable.grad_var = gy
    else:
        variable.grad = gy


def _check_finite(function: FunctionNode, gxs: Sequence[Any]) -> None:
    for i, gx in enumerate(gxs):
        array = getattr(gx, "array", gx)
        if array is not None and not bool(backend.get_array_module(array).isfinite(array).all()):
            raise NonFiniteError(f"the backward pass of {function.label} gives NaN or infinity for its input {i}")


def unchain_backward(variable: Variable) -> None:
    """See `Variable.unchain_backward`."""
    stack = [variable.node]
    while stack:
        node = stack.pop()
        creator, node.creator = node.creator, None
        if creator is not None:
            stack.extend(creator.inputs)
            creator.unchain()
