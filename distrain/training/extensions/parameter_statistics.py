"""An extension that reports statistics of parameters and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distrain import backend
from distrain.errors import ArgumentError
from distrain.reporting import report
from distrain.training.extension import PRIORITY_WRITER, Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

Statistic = Callable[[Any], Any]

_PERCENTILES = (0.13, 2.28, 15.87, 50, 84.13, 97.72, 99.87)  # -3 … 3 standard deviations of a normal distribution


def _percentiles(x: Any) -> Any:
    return backend.get_array_module(x).percentile(x, _PERCENTILES)


class ParameterStatistics(Extension):
    """Reports statistics of all parameters of some links, and of their gradients, once an epoch by default.

        trainer.extend(extensions.ParameterStatistics(model, {"std": lambda x: x.std()}), trigger=(100, "iteration"))

    A value is named `prefix/link/path/data/statistic` or `…/grad/statistic`, without the parts that are empty:
    `predictor/l1/W/grad/mean`. A function that gives several numbers has them numbered: `…/percentile/0`.

    Args:
        links: a link or several.
        statistics: functions of an array, by name. "default" are mean, std, min, max, zeros (how many numbers are 0)
            and percentile (at 0, 1, 2 and 3 standard deviations to both sides of a normal distribution).
        report_params: report the parameters.
        report_grads: report the gradients, where there are any.
        prefix: what all names begin with.
        skip_nan_params: leave out parameters that have NaN in them.

    Raises:
        ArgumentError: `statistics` are neither functions by name nor "default".
    """

    trigger = (1, "epoch")
    priority = PRIORITY_WRITER
    default_statistics: Mapping[str, Statistic] = {
        "mean": lambda x: x.mean(),
        "std": lambda x: x.std(),
        "min": lambda x: x.min(),
        "max": lambda x: x.max(),
        "zeros": lambda x: (x == 0).sum(),
        "percentile": _percentiles,
    }

    def __init__(
        self,
        links: Any,
        statistics: Mapping[str, Statistic] | str | None = "default",
        report_params: bool = True,
        report_grads: bool = True,
        prefix: str | None = None,
        skip_nan_params: bool = False,
    ) -> None:
        self._links = list(links) if isinstance(links, Iterable) and not hasattr(links, "params") else [links]
        if statistics == "default":
            statistics = self.default_statistics
        if isinstance(statistics, str):
            raise ArgumentError(f"statistics must be functions by name or 'default', not {statistics!r}")
        self._statistics = dict(statistics or {})
        self._kinds = ["data"] * report_params + ["grad"] * report_grads
        self._prefix = prefix
        self._skip_nan_params = skip_nan_params

    def register_statistics(self, name: str, function: Statistic) -> None:
        """Adds a function of an array, or replaces the one of that name."""
        self._statistics[name] = function

    def post_process(self, stats: dict[str, Any]) -> None:
        """Called with all values before they are reported; override it to change them in place."""

    def __call__(self, trainer: Trainer) -> None:
        """Reports."""
        stats: dict[str, Any] = {}
        for link in self._links:
            for path, param in link.namedparams(include_uninit=False):
                if self._skip_nan_params and bool(param.xp.isnan(param.array).any()):
                    continue
                for kind in self._kinds:
                    array = getattr(param, kind)
                    if array is not None:
                        parts = (self._prefix, link.name, path.lstrip("/"), kind)
                        self._compute("/".join([part for part in parts if part]), array, stats)
        self.post_process(stats)
        report(stats)

    def _compute(self, name: str, array: Any, stats: dict[str, Any]) -> None:
        for key, function in self._statistics.items():
            value = function(array)
            if getattr(value, "ndim", 0) == 0:
                stats[f"{name}/{key}"] = value
            else:
                stats.update({f"{name}/{key}/{i}": value[i] for i in range(len(value))})
