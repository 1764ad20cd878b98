"""What a model computes, as a table: shapes, parameters, floating-point operations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distrain.autograd import FunctionNode, Variable
from distrain.computational_graph import build_computational_graph
from distrain.config import force_backprop_mode, using_config
from distrain.errors import ArgumentError
from distrain.functions.connection.convolution_2d import Convolution2D, Deconvolution2D
from distrain.functions.connection.embed_id import EmbedID
from distrain.functions.connection.linear import Linear
from distrain.functions.math.matmul import MatMul
from distrain.links.link import Link


@dataclass(frozen=True)
class Row:
    """One function of a model.

    Attributes:
        link: path of the link whose parameters it takes; "" where it takes none.
        function: its name.
        shape: of its output.
        parameters: numbers in the parameters that it takes and no row before it has.
        flops: floating-point operations; see `summarize`.
    """

    link: str
    function: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class ModelSummary:
    """What `summarize` found; prints as a table.

    Attributes:
        rows: the functions, each after those it depends on.
        parameters: numbers in all parameters of the model.
        nbytes: what they take.
        flops: sum of the rows'.
    """

    rows: Sequence[Row]
    parameters: int
    nbytes: int
    flops: int

    def __str__(self) -> str:
        head = ("link", "function", "output shape", "parameters", "FLOPs")
        cells = [
            (row.link, row.function, str(row.shape), f"{row.parameters:,}" if row.parameters else "", _short(row.flops))
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        aligns = ("<", "<", "<", ">", ">")
        lines = [
            "  ".join([f"{c:{a}{w}}" for c, a, w in zip(line, aligns, widths, strict=True)]).rstrip()
            for line in (head, tuple("-" * w for w in widths), *cells)
        ]
        total = f"{self.parameters:,} parameters ({_short(self.nbytes, 'B')}), {_short(self.flops)}FLOP forward"
        return "\n".join([*lines, "", total])


def summarize(model: Link, *args: Any, **kwargs: Any) -> ModelSummary:
    """Runs a model once and lists the functions that led to its output.

        print(L.summarize(model, x))

    Products count two operations a multiplication, everything else one a number of its output, which is what matters
    and not exact. Of a step of training, the forward pass is about a third. The model is left as it was, except that
    parameters without a size get it.

    Args:
        model: any link; it is called as `model(*args, **kwargs)`, not in training mode.
        args, kwargs: arrays or Variables; the rows' shapes are those of this batch.

    Raises:
        ArgumentError: the output does not depend on any parameter.
    """
    with using_config("train", False), force_backprop_mode():
        outputs = _variables(model(*args, **kwargs))
    functions = [node for node in build_computational_graph(outputs).nodes if isinstance(node, FunctionNode)]
    if not functions:
        raise ArgumentError(f"the output of {type(model).__name__} does not depend on a parameter; there is no graph")
    owners = {id(param.node): path for path, param in model.namedparams()}
    sizes = {id(param.node): param.size for param in model.params()}
    rows = []
    for function in functions:
        taken = [id(node) for node in function.inputs if id(node) in owners]
        path = owners[taken[0]].rpartition("/")[0].lstrip("/") if taken else ""
        outs = [node for ref in function.outputs if (node := ref()) is not None]
        shape = outs[0].shape if outs else ()
        rows.append(Row(path, function.label, shape, sum(sizes.pop(i, 0) for i in taken), _flops(function, outs)))
    params = [param for param in model.params() if param.is_initialized]
    return ModelSummary(
        rows,
        sum(param.size for param in params),
        sum(param.size * param.dtype.itemsize for param in params),
        sum(row.flops for row in rows),
    )


def _variables(value: Any) -> list[Variable]:
    """All Variables in an output, however they are packed."""
    if isinstance(value, Variable):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [variable for part in value for variable in _variables(part)]
    return []


def _flops(function: FunctionNode, outputs: Sequence[Any]) -> int:
    sizes: list[int] = [math.prod(node.shape) for node in outputs]
    inputs: list[tuple[int, ...]] = [tuple(node.shape) for node in function.inputs]
    if isinstance(function, Linear):
        return 2 * sizes[0] * inputs[1][1]
    if isinstance(function, Convolution2D):
        return 2 * sizes[0] * math.prod(inputs[1][1:])
    if isinstance(function, Deconvolution2D):
        return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if isinstance(function, MatMul):
        return 2 * sizes[0] * inputs[0][-2 if function.transa and len(inputs[0]) > 1 else -1]
    return 0 if isinstance(function, EmbedID) else sum(sizes)


def _short(number: float, unit: str = "") -> str:
    for letter in ("", "k", "M", "G", "T"):
        if number < 1000 or letter == "T":
            return f"{number:.3g} {letter}{unit}" if letter or unit else f"{number:g}"
        number /= 1000
    raise AssertionError("not reached")
