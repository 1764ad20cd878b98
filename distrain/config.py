"""Switches of the running thread: `config.train`, `config.enable_backprop`, `config.dtype` …

`global_config` holds the defaults of the whole process; `config` is the view of the current thread, which sees the
defaults until it sets a value of its own:

    with distrain.using_config("train", False), distrain.no_backprop_mode():
        y = model(x)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distrain.errors import ArgumentError


class GlobalConfig:
    """The defaults of the process, for every thread that has not set a value of its own.

    Attributes:
        train: dropout drops and batch normalization uses the statistics of the batch.
        enable_backprop: functions record the graph.
        dtype: the dtype of new parameters and of data sets (float16, float32 or float64).
        debug: check every function's output and every gradient for NaN (slow).
        type_check: check shapes and dtypes before each function runs.
        keep_graph_on_report: reported Variables keep their graph (used by `dump_graph`).
    """

    def __init__(self) -> None:
        self.train = True
        self.enable_backprop = True
        self.dtype: DTypeLike = np.float32
        self.debug = False
        self.type_check = True
        self.keep_graph_on_report = False

    def __setattr__(self, name: str, value: Any) -> None:
        if "keep_graph_on_report" in self.__dict__:    # construction is over
            _check(name)
        object.__setattr__(self, name, value)

    def show(self) -> str:
        """One `name  value` line a switch, sorted."""
        return "\n".join(f"{name:<22}{value!r}" for name, value in sorted(vars(self).items()))


global_config = GlobalConfig()


class LocalConfig(threading.local):
    """The switches as the current thread sees them; what it has not set falls through to `global_config`."""

    def __getattr__(self, name: str) -> Any:    # reached only for what this thread has not set
        try:
            return getattr(global_config, name)
        except AttributeError:
            raise AttributeError(_unknown(name)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        _check(name)
        super().__setattr__(name, value)

    def show(self) -> str:
        """One `name  value` line a switch, as this thread sees it."""
        return "\n".join(f"{name:<22}{getattr(self, name)!r}" for name in sorted(vars(global_config)))


config = LocalConfig()


def _unknown(name: str) -> str:
    return f"config has no switch {name!r}; the switches are {', '.join(sorted(vars(global_config)))}"


def _check(name: str) -> None:
    if name not in vars(global_config):
        raise ArgumentError(_unknown(name))


_UNSET = object()


@contextmanager
def using_config(name: str, value: Any, config: LocalConfig = config) -> Iterator[None]:
    """Sets one switch of the current thread for the length of a `with` block.

    Raises:
        ArgumentError: there is no switch of that name.
    """
    before = vars(config).get(name, _UNSET)
    setattr(config, name, value)
    try:
        yield
    finally:
        if before is _UNSET:
            delattr(config, name)
        else:
            setattr(config, name, before)


def no_backprop_mode() -> Any:
    """A `with` block in which no graph is recorded: inference with less memory."""
    return using_config("enable_backprop", False)


def force_backprop_mode() -> Any:
    """A `with` block in which the graph is recorded even inside `no_backprop_mode`."""
    return using_config("enable_backprop", True)
