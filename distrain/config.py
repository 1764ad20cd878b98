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


class Defaults:
    """The switches and the values that the whole process starts with.

    They are attributes of a class from which the view of a thread inherits, so that reading a switch is an ordinary
    attribute look-up: every application of a function reads several.

    Attributes:
        train: dropout drops and batch normalization uses the statistics of the batch.
        enable_backprop: functions record the graph.
        dtype: the dtype of new parameters and of data sets (float16, float32 or float64).
        debug: check every function's output and every gradient for NaN (slow).
        type_check: check shapes and dtypes before each function runs.
        keep_graph_on_report: reported Variables keep their graph (used by `dump_graph`).
    """

    train: bool = True
    enable_backprop: bool = True
    dtype: DTypeLike = np.float32
    debug: bool = False
    type_check: bool = True
    keep_graph_on_report: bool = False

    def __getattr__(self, name: str) -> Any:  # reached only for names that are no switch
        raise AttributeError(_unknown(name))

    def show(self) -> str:
        """One `name  value` line a switch, sorted."""
        return "\n".join(f"{name:<22}{getattr(self, name)!r}" for name in _NAMES)


_NAMES = sorted(Defaults.__annotations__)


class GlobalConfig(Defaults):
    """The defaults of the process, for every thread that has not set a value of its own."""

    def __setattr__(self, name: str, value: Any) -> None:
        _check(name)
        setattr(Defaults, name, value)


class LocalConfig(threading.local, Defaults):
    """The switches as the current thread sees them; what it has not set is as in `global_config`."""

    def __setattr__(self, name: str, value: Any) -> None:
        _check(name)
        super().__setattr__(name, value)


global_config = GlobalConfig()
config = LocalConfig()


def _unknown(name: str) -> str:
    return f"config has no switch {name!r}; the switches are {', '.join(_NAMES)}"


def _check(name: str) -> None:
    if name not in _NAMES:
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
