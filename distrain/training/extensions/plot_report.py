"""An extension that plots reported values."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from distrain import minibatch
from distrain.comm import Communicator
from distrain.reporting import DictSummary
from distrain.training.extension import Extension
from distrain.training.extensions.plot import Picture, is_available, new_figure, require_matplotlib
from distrain.training.triggers import agreement
from distrain.training.triggers.trigger import get_trigger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from distrain.training.trainer import Trainer

_MOST = 4000  # points of a curve, an even number; more would not be seen
_MARKED = 60  # points that get a marker; more would run together


class PlotReport(Extension):
    """Plots the means of reported values over an interval, into a picture file in `trainer.out`.

        trainer.extend(extensions.PlotReport(["main/loss", "validation/main/loss"], "epoch", filename="loss.png"))

    Needs matplotlib (`pip install 'distrain[plot]'`), but no display. All ranks count, rank 0 draws; the picture is
    drawn anew after an interval, but not so often that training would become slower, and when training ends. A curve
    keeps some thousand points: where there are more, neighbours are averaged.

    Args:
        y_keys: names of the values, or one name; one curve each.
        x_key: "iteration", "epoch", or the name of a value.
        trigger: the interval; see `get_trigger`.
        postprocess: called with figure, axes and this extension's means before the file is written, to change the plot.
        filename: name of the file in `trainer.out`; its ending says the format.
        marker: matplotlib's marker of the points, while there are few.
        grid: draw a grid.
        file_name: the older name of `filename`.

    Attributes:
        comm: the ranks whose values are averaged; None is those of the trainer.

    Raises:
        ArgumentError: matplotlib is not installed.
    """

    comm: Communicator | None = None

    def __init__(
        self,
        y_keys: Iterable[str] | str,
        x_key: str = "iteration",
        trigger: Any = (1, "epoch"),
        postprocess: Callable[[Any, Any, Any], Any] | None = None,
        filename: str | None = None,
        marker: str | None = "x",
        grid: bool = True,
        *,
        file_name: str | None = None,
    ) -> None:
        require_matplotlib("PlotReport")
        self._y_keys = [y_keys] if isinstance(y_keys, str) else list(y_keys)
        self._x_key = x_key
        self._trigger = get_trigger(trigger)
        self._postprocess = postprocess
        self._filename = filename or file_name or "plot.png"
        self._marker, self._grid = marker, grid
        self._summary = DictSummary()
        self._means: dict[str, float] = {}
        self._curves: dict[str, Curve] = {key: Curve() for key in self._y_keys}
        self._picture = Picture(self._draw)

    @staticmethod
    def available() -> bool:
        """Whether matplotlib is installed."""
        return is_available()

    def initialize(self, trainer: Trainer) -> None:
        """Takes the trainer's ranks, unless it has its own."""
        if self.comm is None:
            self.comm = trainer.comm
        if self.comm.rank != 0:
            self._summary = DictSummary()  # a snapshot has the sums of all ranks, which count once
        agreement.decide_among(self._trigger, self.comm)

    def __call__(self, trainer: Trainer) -> None:
        """Adds the observation of this iteration; at the end of an interval, a point to each curve."""
        observation = trainer.observation
        keys = self._y_keys if self._x_key in ("iteration", "epoch") else [*self._y_keys, self._x_key]
        share = minibatch.current()
        weight = 1.0 if share is None else share.weight
        self._summary.add({key: observation[key] for key in keys if key in observation}, weight)
        if not self._trigger(trainer):
            return
        comm = self.comm or trainer.comm
        self._means = self._summary.over_ranks(comm)
        self._summary = DictSummary()
        if comm.rank != 0:
            return
        updater = trainer.updater
        positions = {"iteration": updater.iteration, "epoch": updater.epoch_detail, **self._means}
        x = positions.get(self._x_key)
        for key, curve in self._curves.items():
            if x is not None and key in self._means:
                curve.add(x, self._means[key])
        self._picture.update(os.path.join(trainer.out, self._filename))

    def finalize(self) -> None:
        """Draws the last picture."""
        self._picture.finish()

    def gather(self) -> None:
        """Moves the sums of all ranks to rank 0, for a snapshot; a collective call, allowed at any time."""
        if self.comm is not None and self.comm.size > 1:
            self._summary = self._summary.gathered(self.comm)
            agreement.gather(self._trigger)

    def _draw(self) -> Figure:
        figure = new_figure(7, 4.5)
        axes = figure.add_subplot()
        for key, curve in self._curves.items():
            if curve.points:
                x, y = zip(*curve.points, strict=True)
                axes.plot(x, y, marker=self._marker if len(x) <= _MARKED else None, label=key)
        axes.set_xlabel(self._x_key)
        if len(self._y_keys) == 1:
            axes.set_ylabel(self._y_keys[0])
        elif axes.has_data():
            axes.legend()
        if self._grid:
            axes.grid(alpha=0.4)
        if self._postprocess is not None:
            self._postprocess(figure, axes, self._means)
        return figure

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the points, and the sums of the interval that has begun."""
        if hasattr(self._trigger, "serialize"):
            self._trigger.serialize(serializer["_trigger"])
        self._summary.serialize(serializer["_summary"])
        for key, curve in self._curves.items():
            text = serializer(f"_plot_{key}", curve.to_json() if serializer.is_writer else None)
            if not serializer.is_writer and text is not None:
                curve.from_json(text)


class Curve:
    """Points (x, y), of which there are never too many.

    When there are, each two neighbours become one in their middle; later points are averaged as they come, so that all
    stand for the same number of intervals.
    """

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self._each = 1  # values that a point stands for
        self._pending: list[tuple[float, float]] = []

    def add(self, x: float, y: float) -> None:
        """Adds a point."""
        self._pending.append((x, y))
        if len(self._pending) < self._each:
            return
        self.points.append(_middle(self._pending))
        self._pending = []
        if len(self.points) >= _MOST:
            self._each *= 2
            self.points = [_middle(self.points[i : i + 2]) for i in range(0, len(self.points), 2)]

    def to_json(self) -> str:
        """Its state; the list of points while none had to be averaged, as Chainer wrote it."""
        if self._each == 1:
            return json.dumps(self.points)
        return json.dumps({"points": self.points, "each": self._each, "pending": self._pending})

    def from_json(self, text: str) -> None:
        """Takes the state that `to_json` wrote."""
        state = json.loads(text)
        if isinstance(state, list):
            state = {"points": state, "each": 1, "pending": []}
        self.points, self._pending = ([(x, y) for x, y in state[name]] for name in ("points", "pending"))
        self._each = state["each"]


def _middle(points: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
