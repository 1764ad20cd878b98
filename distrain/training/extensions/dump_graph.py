"""An extension that draws the computational graph."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distrain.autograd import Variable
from distrain.computational_graph import build_computational_graph
from distrain.config import config
from distrain.errors import ArgumentError
from distrain.files import atomic_write
from distrain.training.extension import Extension, RunsOn

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class DumpGraph(Extension):
    """Writes the graph that leads to a reported Variable, once, in the first iteration; made by `dump_graph`.

    Attributes:
        root_name, filename, variable_style, function_style: see `dump_graph`.
    """

    runs_on: RunsOn = "rank0"

    def __init__(
        self,
        root_name: str,
        filename: str,
        variable_style: Mapping[str, str] | None,
        function_style: Mapping[str, str] | None,
    ) -> None:
        self.root_name, self.filename = root_name, filename
        self.variable_style, self.function_style = variable_style, function_style
        self._original_flag = False
        self._done = False
        self._holds_flag = False

    @property
    def default_name(self) -> str:
        """The name if none is given."""
        return "dump_graph"

    def trigger(self, trainer: Trainer) -> bool:
        """Whether the graph is still to be written."""
        return not self._done

    def initialize(self, trainer: Trainer) -> None:
        """Makes reported Variables keep their graph."""
        if not self._done:
            self._original_flag = config.keep_graph_on_report
            config.keep_graph_on_report = self._holds_flag = True

    def __call__(self, trainer: Trainer) -> None:
        """Writes the graph.

        Raises:
            ArgumentError: nothing of that name was reported, or something that is no Variable.
        """
        self._done = True
        self._restore()
        root = trainer.observation.get(self.root_name)
        if not isinstance(root, Variable):
            found = "nothing of that name was reported" if root is None else f"that is a {type(root).__name__}"
            names = ", ".join(repr(key) for key, value in trainer.observation.items() if isinstance(value, Variable))
            raise ArgumentError(f"dump_graph({self.root_name!r}): {found}; reported Variables are {names or 'none'}")
        graph = build_computational_graph(
            [root], variable_style=self.variable_style, function_style=self.function_style
        )
        with atomic_write(os.path.join(trainer.out, self.filename)) as stream:
            stream.write(graph.dump().encode())

    def finalize(self) -> None:
        """Gives the switch back if there was no first iteration."""
        self._restore()

    def _restore(self) -> None:
        if self._holds_flag:
            config.keep_graph_on_report = self._original_flag
            self._holds_flag = False

    def serialize(self, serializer: Any) -> None:
        """Writes or reads whether the graph has been written."""
        self._original_flag = serializer("_original_flag", self._original_flag)
        self._done = serializer("_flag_called", self._done)


def dump_graph(
    root_name: str,
    filename: str = "cg.dot",
    variable_style: Mapping[str, str] | None = None,
    function_style: Mapping[str, str] | None = None,
) -> DumpGraph:
    """An extension that writes the graph of the first iteration for Graphviz: `dot -Tpng result/cg.dot > cg.png`.

    Args:
        root_name: name of a reported Variable, the root of the graph: "main/loss".
        filename: name of the file in `trainer.out`.
        variable_style: Graphviz attributes of the Variables; see `build_computational_graph`.
        function_style: Graphviz attributes of the functions.
    """
    return DumpGraph(root_name, filename, variable_style, function_style)
