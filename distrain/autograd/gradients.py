"""`grad`: gradients of chosen variables with respect to chosen others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd.backprop import Gradients, visit
from distrain.autograd.variable import Variable, VariableNode
from distrain.config import using_config
from distrain.errors import ArgumentError


def grad(
    outputs: Sequence[Variable],
    inputs: Sequence[Variable],
    grad_outputs: Sequence[Variable | None] | None = None,
    grad_inputs: Sequence[Variable | None] | None = None,
    set_grad: bool = False,
    retain_grad: bool = False,
    enable_double_backprop: bool = False,
    loss_scale: float | None = None,
) -> list[Variable | None]:
    """Gradients of some variables with respect to others, without touching anybody's `grad`.

    Args:
        outputs: what is differentiated.
        inputs: with respect to what; also intermediate variables.
        grad_outputs: initial gradients, ones where None.
        grad_inputs: gradients to add to the results.
        set_grad: also store the results as the inputs' gradients.
        retain_grad: also keep the gradients of the variables in between.
        enable_double_backprop: record a graph of the results, to differentiate them again.
        loss_scale: factor on the initial gradients.

    Returns:
        For each input its gradient, or None if no output depends on it.

    Raises:
        ArgumentError: lengths of outputs and grad_outputs, or of inputs and grad_inputs, differ.
    """
    for name, given, want in (("grad_outputs", grad_outputs, outputs), ("grad_inputs", grad_inputs, inputs)):
        if given is not None and len(given) != len(want):
            raise ArgumentError(f"{name} has {len(given)} entries for {len(want)} variables")
    starts: Gradients = {}
    for i, y in enumerate(outputs):
        start: Any = grad_outputs[i] if grad_outputs is not None else None
        if start is None:
            start = Variable(y.xp.full(y.shape, loss_scale or 1.0, y.dtype))
        elif loss_scale is not None:
            start = start * loss_scale
        if not enable_double_backprop:
            start = start.array
        starts[y.node] = starts[y.node] + start if y.node in starts else start
    wanted = {x.node for x in inputs}
    within = _between(outputs, wanted)
    with using_config("enable_backprop", enable_double_backprop):
        found = visit(starts, double=enable_double_backprop, retain_grad=retain_grad, within=within, wanted=wanted)
        results: list[Variable | None] = []
        for i, x in enumerate(inputs):
            g = found.get(x.node)
            extra = grad_inputs[i] if grad_inputs is not None else None
            if g is not None and not enable_double_backprop:
                g = Variable(g)
            if extra is not None:
                g = extra if g is None else g + extra
            results.append(g)
    if set_grad:
        for x, g in zip(inputs, results, strict=True):
            x.grad_var = g
    return results


def _between(outputs: Sequence[Variable], wanted: set[VariableNode]) -> set[VariableNode]:
    """The places that lie on a path from a wanted one to an output, both ends included."""
    nodes: dict[VariableNode, None] = {}
    stack = [y.node for y in outputs]
    while stack:
        node = stack.pop()
        if node not in nodes:
            nodes[node] = None
            if node.creator is not None:
                stack.extend(node.creator.inputs)
    within = set(wanted)
    for node in sorted(nodes, key=lambda n: n.depth):
        if node.creator is not None and any(x in within for x in node.creator.inputs):
            within.add(node)
    return within
