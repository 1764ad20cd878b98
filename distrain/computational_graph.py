"""Pictures of the graph that a computation has recorded, as text for Graphviz.

graph = build_computational_graph([loss])
Path("cg.dot").write_text(graph.dump())    # dot -Tpng cg.dot > cg.png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from distrain.autograd import FunctionNode, Parameter, Variable
from distrain.errors import ArgumentError

Style: TypeAlias = Mapping[str, str]

VARIABLE_STYLE: Style = {"shape": "ellipse", "style": "filled", "fillcolor": "#E8E8E8"}
PARAMETER_STYLE: Style = {"fillcolor": "#FFD58A"}
FUNCTION_STYLE: Style = {"shape": "box", "style": "filled", "fillcolor": "#8FB8E8"}

_RANKDIRS = ("TB", "BT", "LR", "RL")


@dataclass(frozen=True)
class ComputationalGraph:
    """The functions and variables that lead to some outputs; the order depends on the computation alone.

    Attributes:
        nodes: VariableNodes and FunctionNodes, each after those it was computed from.
        edges: pairs of nodes, from input to output.
        variable_style, function_style, rankdir, show_name: see `build_computational_graph`.
    """

    nodes: Sequence[Any]
    edges: Sequence[tuple[Any, Any]]
    variable_style: Style
    function_style: Style
    rankdir: str
    show_name: bool

    def dump(self, format: str = "dot") -> str:
        """The graph in Graphviz' language.

        Raises:
            ArgumentError: another format than "dot" is asked for.
        """
        if format != "dot":
            raise ArgumentError(f"a graph is written as 'dot', not as {format!r}; Graphviz makes pictures of it")
        numbers = {id(node): f"n{i}" for i, node in enumerate(self.nodes)}
        lines = [f"digraph graphname {{rankdir={self.rankdir};", '  node [fontname="Helvetica", fontsize=11];']
        lines += [f"  {numbers[id(node)]} [{self._attributes(node)}];" for node in self.nodes]
        lines += [f"  {numbers[id(tail)]} -> {numbers[id(head)]};" for tail, head in self.edges]
        return "\n".join([*lines, "}\n"])

    def _attributes(self, node: Any) -> str:
        if isinstance(node, FunctionNode):
            style = {"label": node.label, **self.function_style}
        else:
            style = {"label": self._variable_label(node), **self.variable_style}
            if isinstance(node.variable(), Parameter):
                style.update(PARAMETER_STYLE)
        return ", ".join(f"{key}={_quoted(str(value))}" for key, value in style.items())

    def _variable_label(self, node: Any) -> str:
        size = f"{node.shape}, {node.dtype}" if node.shape else str(node.dtype)
        return f"{node.name}\n{size}" if node.name and self.show_name else size


def build_computational_graph(
    outputs: Sequence[Any],
    remove_split: bool = False,
    variable_style: Style | None = None,
    function_style: Style | None = None,
    rankdir: str = "TB",
    remove_variable: bool = False,
    show_name: bool = True,
) -> ComputationalGraph:
    """The graph that leads to some Variables.

    Args:
        outputs: Variables, or nodes of the graph.
        remove_split: has no effect: a Variable that is used more than once needs no node to split it. Older callers
            give it.
        variable_style: Graphviz attributes of variables, such as `{"shape": "octagon"}`.
        function_style: Graphviz attributes of functions.
        rankdir: direction of the picture: "TB" (top to bottom), "BT", "LR" or "RL".
        remove_variable: leave the variables out and join functions with each other.
        show_name: put the names of variables above shape and dtype.

    Raises:
        ArgumentError: an unknown direction.
    """
    if rankdir not in _RANKDIRS:
        raise ArgumentError(f"rankdir must be one of {', '.join(_RANKDIRS)}, not {rankdir!r}")
    roots = [output.node if isinstance(output, Variable) else output for output in outputs]
    nodes = _sorted(roots)
    edges = _edges_of_functions(nodes) if remove_variable else _edges(nodes)
    if remove_variable:
        nodes = [node for node in nodes if isinstance(node, FunctionNode)]
    return ComputationalGraph(
        nodes,
        edges,
        {**VARIABLE_STYLE, **(variable_style or {})},
        {**FUNCTION_STYLE, **(function_style or {})},
        rankdir,
        show_name,
    )


def _sources(node: Any) -> Sequence[Any]:
    if isinstance(node, FunctionNode):
        return node.inputs
    return () if node.creator is None else (node.creator,)


def _sorted(roots: Sequence[Any]) -> list[Any]:
    """All nodes that lead to the roots, each after its sources: a depth-first walk, without recursion."""
    done: dict[int, Any] = {}
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if id(node) in done:
            continue
        if expanded:
            done[id(node)] = node
        else:
            stack.append((node, True))
            stack += [(source, False) for source in reversed(_sources(node))]
    return list(done.values())


def _edges(nodes: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(source, node) for node in nodes for source in _sources(node)]


def _edges_of_functions(nodes: Sequence[Any]) -> list[tuple[Any, Any]]:
    functions = [node for node in nodes if isinstance(node, FunctionNode)]
    return [(x.creator, function) for function in functions for x in function.inputs if x.creator is not None]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
