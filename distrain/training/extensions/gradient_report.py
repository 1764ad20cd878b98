"""An extension that reports how large gradients and updates are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from distrain.errors import ArgumentError
from distrain.training.extension import PRIORITY_WRITER, Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_HOOK = "GradientReport"


class GradientReport(Extension):
    """Reports, every so many iterations, the norms of gradient, parameters and update.

    In the observation appear, with the name of the optimizer before them:

        main/grad_norm       of all gradients together, as they come from all ranks, before hooks such as clipping
        main/param_norm      of all parameters before the step
        main/update_ratio    norm of the change of the parameters in this step, divided by that of the parameters;
                             around 1e-3 is usual, far more means that the learning rate is too high

    They are those of one step, not means. Other iterations cost nothing, so that `interval` is what it costs.

    Args:
        interval: iterations between two reports.
        optimizer_name: the optimizer's name in the updater.

    Raises:
        ArgumentError: the interval is not a positive integer.
    """

    priority = PRIORITY_WRITER

    def __init__(self, interval: int = 100, optimizer_name: str = "main") -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ArgumentError(
                f"the interval of GradientReport must be a positive number of iterations, not {interval!r}"
            )
        self.interval = interval
        self._name = optimizer_name
        self._optimizer: Any = None
        self._trainer: Trainer | None = None
        self._before: list[tuple[Any, Any]] = []
        self._values: dict[str, float] = {}

    def trigger(self, trainer: Trainer) -> bool:
        """Whether this iteration is reported."""
        return trainer.updater.iteration % self.interval == 0

    def initialize(self, trainer: Trainer) -> None:
        """Puts its hooks into the optimizer, the first before all others."""
        self._trainer = trainer
        self._optimizer = optimizer = trainer.updater.get_optimizer(self._name)
        hooks = optimizer.hooks
        optimizer.hooks = {f"{_HOOK} {self.name}": (self._before_update, "pre"), **hooks}
        optimizer.add_hook(self._after_update, f"{_HOOK} {self.name} after", False, "post")

    def _before_update(self, optimizer: Any) -> None:
        assert self._trainer is not None
        if (self._trainer.updater.iteration + 1) % self.interval == 0:
            pieces = optimizer.gradient_runs()
            self._before = [(piece, piece.array.copy()) for piece in pieces]
            self._values = {
                f"{self._name}/grad_norm": _norm([piece.grad for piece in pieces]),
                f"{self._name}/param_norm": _norm([piece.array for piece in pieces]),
            }

    def _after_update(self, optimizer: Any) -> None:
        if self._before:
            change = _norm([piece.array - before for piece, before in self._before])
            norm = self._values[f"{self._name}/param_norm"]
            self._values[f"{self._name}/update_ratio"] = change / norm if norm else math.nan
            self._before = []

    def __call__(self, trainer: Trainer) -> None:
        """Puts the norms into the observation."""
        trainer.observation.update(self._values)
        self._values = {}

    def finalize(self) -> None:
        """Takes its hooks away."""
        if self._optimizer is not None:
            for ending in ("", " after"):
                self._optimizer.hooks.pop(f"{_HOOK} {self.name}{ending}", None)


def _norm(arrays: list[Any]) -> float:
    """The Euclidean norm of all numbers; waits for the GPU once an array."""
    total = 0.0
    for array in arrays:
        flat = array.ravel()
        flat = flat.astype(np.float32) if flat.dtype == np.float16 else flat
        total += float(flat.dot(flat))
    return math.sqrt(total)
