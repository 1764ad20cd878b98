"""Which learning rate to train with: the loss of a few steps at rising rates."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from distrain import backend, minibatch
from distrain import comm as comm_module
from distrain.errors import ArgumentError
from distrain.reporting import DictSummary, Reporter
from distrain.serializers import DictionarySerializer, NpzDeserializer
from distrain.training.extensions.plot import new_figure, require_matplotlib
from distrain.training.updater import Updater

_SMOOTHING = 0.9  # of the moving average of the losses
_DELAY = round(_SMOOTHING / (1 - _SMOOTHING))  # steps by which the average lags behind
_TOO_MUCH = 3.0  # times the lowest smoothed loss above it: the training has blown up
_FIRST = 10  # steps before one may say so


@dataclass(frozen=True)
class LearningRates:
    """What `find_learning_rate` has seen.

    Attributes:
        rates: the learning rates, one a step.
        losses: the loss of the whole job before each step.
        smoothed: their moving average.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]

    @property
    def suggestion(self) -> float:
        """The rate at which the smoothed loss falls fastest before it is lowest or blows up; NaN if it never falls.

        A tenth of the rate at which the loss is lowest is another common choice, and often the same.
        """
        if len(self.rates) < 3:
            return math.nan
        smoothed = np.array(self.smoothed)
        start = smoothed[:_FIRST].max()
        blown_up = np.flatnonzero(smoothed > start + 0.1 * abs(start))
        lowest = int(np.argmin(smoothed[: blown_up[0] if len(blown_up) else None]))
        slopes = np.gradient(smoothed, np.log(self.rates))[: lowest + 1]
        best = int(np.argmin(slopes))
        return self.rates[max(best - _DELAY, 0)] if slopes[best] < 0 else math.nan

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws loss over rate into a picture file.

        Raises:
            ArgumentError: matplotlib is not installed.
        """
        require_matplotlib("LearningRates.plot")
        figure = new_figure(7, 4.5)
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses, alpha=0.35, label="loss")
        axes.plot(self.rates, self.smoothed, color="C0", label="smoothed")
        if not math.isnan(self.suggestion):
            axes.axvline(self.suggestion, color="C1", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        axes.set_xscale("log")
        low, high = min(self.smoothed), self.smoothed[0]
        axes.set_ylim(low - 0.1 * abs(high - low), high + 0.5 * abs(high - low) + 1e-12)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.grid(alpha=0.4)
        axes.legend()
        figure.savefig(path)


def find_learning_rate(
    updater: Updater,
    attr: str = "lr",
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    key: str = "main/loss",
) -> LearningRates:
    """Trains some steps, each at a higher learning rate than the last, and then puts everything back as it was.

        found = training.find_learning_rate(updater, "alpha")
        optimizer.alpha = found.suggestion
        found.plot("rates.png")

    It ends early when the loss has blown up. Model, optimizer and iterators are then as before: a training that follows
    is the same as without. A collective call on several ranks.

    Args:
        updater: what would be given to a Trainer.
        attr: the optimizer's learning rate: "lr", for Adam "alpha".
        low: the first rate.
        high: the last rate.
        steps: how many steps, at most.
        key: name of the loss that is reported.

    Raises:
        ArgumentError: impossible rates, or nothing was reported under the key.

    References:
        L. N. Smith: Cyclical Learning Rates for Training Neural Networks, 2017.
    """
    if not 0 < low < high or steps < 2:
        raise ArgumentError(f"find_learning_rate needs 0 < low < high and two steps, not {low}, {high}, {steps} steps")
    comm = getattr(updater, "comm", None) or comm_module.world()
    optimizer = updater.get_optimizer("main")
    reporter = Reporter()
    for name, one in updater.get_all_optimizers().items():
        reporter.add_observer(name, one.target)
        reporter.add_observers(name, one.target.namedlinks(skipself=True))
    found = LearningRates([], [], [])
    average, best = 0.0, math.inf
    with _whole_state(updater), _as_before(updater), _hyperparameters_as_before(optimizer):
        for step in range(steps):
            rate = low * (high / low) ** (step / (steps - 1))
            setattr(optimizer, attr, rate)
            observation: dict[str, Any] = {}
            with reporter, reporter.scope(observation):
                updater.update()
            loss = _loss_of_the_job(observation, key, comm)
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            smoothed = average / (1 - _SMOOTHING ** (step + 1))
            if not math.isfinite(loss) or (step >= _FIRST and smoothed > best + _TOO_MUCH * abs(best)):
                break
            best = min(best, smoothed)
            found.rates.append(rate)
            found.losses.append(loss)
            found.smoothed.append(smoothed)
    return found


def _loss_of_the_job(observation: dict[str, Any], key: str, comm: Any) -> float:
    summary = DictSummary()
    share = minibatch.current()
    summary.add(observation, 1.0 if share is None else share.weight)
    means = summary.over_ranks(comm)
    if key not in means:
        names = ", ".join(map(repr, means)) or "nothing"
        raise ArgumentError(f"find_learning_rate looks at {key!r}, but what the model reports is {names}")
    return means[key]


@contextmanager
def _whole_state(updater: Updater) -> Iterator[None]:
    """A `with` block in which every rank has all of the optimizers' state, which it can put back."""
    optimizers = updater.get_all_optimizers().values()
    sharded = [optimizer for optimizer in optimizers if getattr(optimizer, "is_state_sharded", False)]
    for optimizer in sharded:
        optimizer.shard_state(False)
    try:
        yield
    finally:
        for optimizer in sharded:
            optimizer.shard_state()


@contextmanager
def _hyperparameters_as_before(optimizer: Any) -> Iterator[None]:
    before = dict(optimizer.hyperparam.get_dict())
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(optimizer.hyperparam, name, value)


@contextmanager
def _as_before(updater: Updater) -> Iterator[None]:
    """Puts the whole state of an updater back after a `with` block."""
    share = minibatch.current()
    before = _state(updater)
    params = [
        (f"model:{name}{path}", param, _RuleState(param.update_rule), param.is_initialized)
        for name, optimizer in updater.get_all_optimizers().items()
        for path, param in optimizer.target.namedparams()
    ]
    try:
        yield
    finally:
        after = _state(updater)
        for key, _, _, had_size in params:
            if not had_size:
                before.pop(key, None)
        NpzDeserializer({**after, **before}).load(updater)  # what was not there before comes to its first state below
        for _, param, rule_state, had_size in params:
            if not had_size and param.is_initialized:
                param.unbind()
                param.initialize(param.shape)  # the same numbers as in a first forward pass
            rule_state.put_back(param)
            param.cleargrad()
        minibatch.announce(share)


def _state(updater: Updater) -> dict[str, Any]:
    writer = DictionarySerializer()
    updater.serialize(writer)
    return {key: np.array(value) for key, value in writer.target.items()}  # the writer shows arrays and copies none


class _RuleState:
    """What an update rule knew."""

    def __init__(self, rule: Any) -> None:
        self._t = rule.t
        self._state = None if rule.state is None else {name: array.copy() for name, array in rule.state.items()}

    def put_back(self, param: Any) -> None:
        """Gives it back to the rule of the parameter, in place."""
        rule = param.update_rule
        rule.t = self._t
        for name, array in (rule.state or {}).items():
            if self._state is not None:
                backend.copyto(array, self._state[name])
            elif name == "master":
                array[...] = param.array
            else:
                array[...] = 0
