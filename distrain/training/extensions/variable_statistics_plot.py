"""An extension that plots how parameters and gradients are distributed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distrain import backend
from distrain.errors import ArgumentError
from distrain.training.extension import Extension, RunsOn
from distrain.training.extensions.plot import Picture, is_available, new_figure, require_matplotlib
from distrain.training.triggers.trigger import get_trigger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from distrain.training.trainer import Trainer

SIGMAS = (0, 0.13, 2.28, 15.87, 50, 84.13, 97.72, 99.87, 100)
"""Percentiles: the least, -3 … 3 standard deviations of a normal distribution, the largest."""

_MOST_NUMBERS = 10_000  # of an array that percentiles are taken of
_TITLES = {"data": "values", "grad": "gradients"}


class VariableStatisticsPlot(Extension):
    """Plots mean, standard deviation and percentiles of parameters and of their gradients over the iterations.

        trainer.extend(extensions.VariableStatisticsPlot(model.predictor.l1))

    Needs matplotlib (`pip install 'distrain[plot]'`), but no display. All ranks have the same parameters and, after an
    update, the same gradients, so this is rank 0's work. It looks at every iteration at first; when it has
    `max_sample_size` of them, it lets go of every second one and from then on looks half as often, and so on: neither
    memory nor time grow with the length of the training.

    Args:
        targets: a link, a Variable, or a list of these; one row of plots for each parameter.
        max_sample_size: iterations whose statistics are kept.
        report_data: plot values.
        report_grad: plot gradients.
        plot_mean: plot the mean.
        plot_std: plot the band of one standard deviation around the mean.
        percentile_sigmas: percentiles to plot, 0 … 100. The shade between two that belong together is darker the nearer
            they are to the middle. Of arrays with more than 10,000 numbers, evenly spaced ones are taken.
        trigger: when to draw; see `get_trigger`.
        filename: name of the file in `trainer.out`; its ending says the format.
        figsize: width and height in inches.
        marker: matplotlib's marker of the points.
        grid: draw a grid.

    Raises:
        ArgumentError: matplotlib is not installed, or there is nothing to plot.
    """

    runs_on: RunsOn = "rank0"

    def __init__(
        self,
        targets: Any,
        max_sample_size: int = 1000,
        report_data: bool = True,
        report_grad: bool = True,
        plot_mean: bool = True,
        plot_std: bool = True,
        percentile_sigmas: float | Sequence[float] = SIGMAS,
        trigger: Any = (1, "epoch"),
        filename: str = "statistics.png",
        figsize: tuple[float, float] | None = None,
        marker: str | None = None,
        grid: bool = True,
    ) -> None:
        require_matplotlib("VariableStatisticsPlot")
        self._variables = _named_variables(targets)
        self._kinds = ["data"] * report_data + ["grad"] * report_grad
        if not self._variables or not self._kinds:
            raise ArgumentError(
                "VariableStatisticsPlot has nothing to plot: no parameter, or neither data nor gradients"
            )
        if max_sample_size < 2:
            raise ArgumentError(f"max_sample_size must be at least 2, not {max_sample_size}")
        self._max_sample_size = max_sample_size
        self._percentiles = sorted(np.atleast_1d(np.asarray(percentile_sigmas, float)).tolist())
        self._plot_mean, self._plot_std = plot_mean, plot_std
        self._trigger = get_trigger(trigger)
        self._filename, self._figsize, self._marker, self._grid = filename, figsize, marker, grid
        self._step = 1
        self._iterations: list[int] = []
        self._samples: list[Any] = []  # (variables, kinds, 2 + percentiles) float64 each
        self._picture = Picture(self._draw)

    @staticmethod
    def available() -> bool:
        """Whether matplotlib is installed."""
        return is_available()

    def __call__(self, trainer: Trainer) -> None:
        """Looks at the parameters; draws when its trigger fires."""
        iteration = trainer.updater.iteration
        if iteration % self._step == 0:
            self._iterations.append(iteration)
            self._samples.append(self._look())
            if len(self._samples) > self._max_sample_size:
                self._step *= 2
                kept = [i for i, iteration in enumerate(self._iterations) if iteration % self._step == 0]
                self._iterations = [self._iterations[i] for i in kept]
                self._samples = [self._samples[i] for i in kept]
        if self._trigger(trainer):
            self._picture.update(os.path.join(trainer.out, self._filename))

    def _look(self) -> Any:
        return np.array(
            [[self._statistics(getattr(v, kind)) for kind in self._kinds] for v in self._variables.values()]
        )

    def _statistics(self, array: Any) -> list[float]:
        """Mean, standard deviation and percentiles; NaN where there are no numbers."""
        if array is None or not array.size:
            return [np.nan] * (2 + len(self._percentiles))
        array = backend.to_cpu(array).ravel()
        part = array[:: -(-array.size // _MOST_NUMBERS)].astype(np.float64)
        percentiles = np.percentile(part, self._percentiles).tolist() if self._percentiles else []
        return [float(array.mean(dtype=np.float64)), float(array.std(dtype=np.float64)), *percentiles]

    def finalize(self) -> None:
        """Draws the last picture."""
        self._picture.finish()

    def _draw(self) -> Figure:
        size = self._figsize or (5.0 * len(self._kinds) + 1, min(2.2 * len(self._variables) + 0.6, 60.0))
        figure = new_figure(*size)
        axes = figure.subplots(len(self._variables), len(self._kinds), sharex=True, squeeze=False)
        samples = np.array(self._samples)
        for row, (name, line) in enumerate(zip(self._variables, axes, strict=True)):
            for column, (kind, one) in enumerate(zip(self._kinds, line, strict=True)):
                self._draw_one(one, samples[:, row, column])
                if row == 0:
                    one.set_title(_TITLES[kind])
                if row == len(axes) - 1:
                    one.set_xlabel("iteration")
            line[0].set_ylabel(name)
        figure.align_ylabels()
        if handles := axes[0][0].get_legend_handles_labels()[0]:
            figure.legend(handles=handles, loc="outside upper right", ncols=4, fontsize="small", frameon=False)
        return figure

    def _draw_one(self, axes: Any, samples: Any) -> None:
        x = self._iterations
        mean, std, curves = samples[:, 0], samples[:, 1], samples[:, 2:].T
        for i in range(len(curves) // 2):
            axes.fill_between(x, curves[i], curves[-1 - i], color="C0", alpha=0.18, linewidth=0)
        if len(curves) % 2:
            label = "median" if self._percentiles[len(curves) // 2] == 50 else None
            axes.plot(x, curves[len(curves) // 2], color="C0", marker=self._marker, label=label)
        if self._plot_mean:
            axes.plot(x, mean, color="C1", marker=self._marker, label="mean")
        if self._plot_std:
            axes.plot(x, mean + std, color="C1", linestyle=":", label="mean ± std")
            axes.plot(x, mean - std, color="C1", linestyle=":")
        if self._grid:
            axes.grid(alpha=0.4)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the statistics so far."""
        if hasattr(self._trigger, "serialize"):
            self._trigger.serialize(serializer["_trigger"])
        self._step = serializer("_step", self._step)
        writes = serializer.is_writer
        iterations = serializer("_iterations", np.array(self._iterations, np.int64) if writes else None)
        samples = serializer("_samples", np.array(self._samples) if writes else None)
        shape = (len(self._variables), len(self._kinds), 2 + len(self._percentiles))
        if not writes and iterations is not None and samples is not None and samples.shape[1:] == shape:
            self._iterations, self._samples = iterations.tolist(), list(samples)


def _named_variables(targets: Any) -> dict[str, Any]:
    """Parameters and Variables by the names that the plots get."""
    found: dict[str, Any] = {}
    for target in targets if isinstance(targets, Iterable) and not hasattr(targets, "params") else [targets]:
        if hasattr(target, "namedparams"):
            prefix = target.name or ""
            found.update({(prefix + path).lstrip("/"): param for path, param in target.namedparams()})
        elif hasattr(target, "grad"):
            found[target.name or f"variable {len(found)}"] = target
        else:
            raise ArgumentError(f"VariableStatisticsPlot takes links and Variables, not {target!r}")
    return found
