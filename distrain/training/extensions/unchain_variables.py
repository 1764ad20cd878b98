"""An extension that lets go of computational graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distrain.autograd import Variable
from distrain.config import config
from distrain.training.extension import Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class unchain_variables(Extension):  # noqa: N801    Chainer's name
    """Takes the graphs of all observed Variables apart, after the other extensions.

    Observed Variables have a graph only while `config.keep_graph_on_report` is set, as by an extension that looks at
    graphs; then what somebody keeps of the observation would keep all activations of that iteration alive.
    """

    priority = 0

    def __init__(self) -> None:
        self._kept = False

    def initialize(self, trainer: Trainer) -> None:
        """Notes whether the first iteration keeps graphs."""
        self._kept = config.keep_graph_on_report

    def trigger(self, trainer: Trainer) -> bool:
        """Whether graphs were kept when this iteration began."""
        kept, self._kept = self._kept, config.keep_graph_on_report
        return kept

    def __call__(self, trainer: Trainer) -> None:
        """Takes the graphs apart."""
        for value in trainer.observation.values():
            if isinstance(value, Variable):
                value.unchain_backward()
