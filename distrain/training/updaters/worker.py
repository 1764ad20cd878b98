"""The life of a process that trains on one device, under the orders of the main process.

    main ── socket ──► worker      Step(iteration, …), Save(), Load(state), Stop()
         ◄───────────              Done(count, reports), Saved(state), Failed(kind, text)

A worker has its own iterator and its own copy of the model. In each step it takes over the parameters, and leaves its
gradients, see `shared`. It ends with the main process, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import signal
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from distrain import backend, minibatch, rng
from distrain.config import Defaults, config, global_config
from distrain.links import Link
from distrain.reporting import DictSummary, Reporter, Sums
from distrain.serializers import DictionarySerializer, NpzDeserializer
from distrain.training.updaters.shared import SharedArrays

State = dict[str, Any]
"""What an iterator has saved: arrays by key."""

Config = dict[str, Any]
"""The switches of a thread by name."""


class Cargo(NamedTuple):
    """What the workers get when they start.

    Attributes:
        model: without gradients, in host memory.
        iterators: one a device, the main one's left out (None).
        converter: makes arrays of a list of examples.
        devices: one a device, as the user named them.
        seed: the job's.
    """

    model: Link
    iterators: list[Any]
    converter: Any
    devices: list[Any]
    seed: int


class Step(NamedTuple):
    """An order: forward and backward pass of the next minibatch.

    Attributes:
        iteration: steps before this one.
        config: the switches of the main process.
        loss_scale: factor on the initial gradient.
    """

    iteration: int
    config: Config
    loss_scale: float | None


class Save(NamedTuple):
    """An order: tell the state of the iterator."""


class Load(NamedTuple):
    """An order: put the iterator into a state."""

    state: State


class Stop(NamedTuple):
    """An order: end."""


class Done(NamedTuple):
    """The answer to a step.

    Attributes:
        count: samples of the minibatch.
        reports: sums of what was reported, weighted by samples.
    """

    count: int  # type: ignore[assignment]    # it hides tuple.count
    reports: dict[str, Sums]


class Saved(NamedTuple):
    """The answer to `Save` and `Load`."""

    state: State


class Failed(NamedTuple):
    """The answer to any order that raised an exception.

    Attributes:
        text: the exception in one line.
        traceback: the whole of it.
        is_at_end: the iterator had no more minibatches.
    """

    text: str
    traceback: str
    is_at_end: bool = False


BOOT = (
    "import json, sys; boot = json.loads(sys.argv[1]); sys.path[:] = boot['path']; sys.argv[:] = boot['argv']\n"
    "from distrain.training.updaters import worker; worker.main(boot)"
)
"""What a fresh interpreter is told to do, with `boot` as JSON behind it."""

_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")  # the main process decides
_PR_SET_PDEATHSIG = 1
_NOISE_ROWS = 2**32  # of a device: more than a minibatch has samples


def main(boot: dict[str, Any]) -> None:
    """Works until the main process says stop."""
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _end_with(boot["main"], boot["kill"])
    with Connection(boot["control"]) as control:
        try:
            worker = _Worker(boot)
            while not isinstance(order := control.recv(), Stop):
                control.send(worker.answer(order))
            worker.close()
        except (EOFError, ConnectionError):  # the main process has closed its end
            return
        except Exception as error:
            control.send(failure(error))


def _end_with(pid: int, is_killed: bool) -> None:
    """Ends this process when that one does.

    The kernel does so at once, but it looks at the thread that has started this process; a worker of another thread
    than the main one relies on a thread of its own.
    """
    if is_killed:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)
    if os.getppid() != pid:
        os._exit(1)
    threading.Thread(target=_watch, args=(pidfd,), name="distrain-parent", daemon=True).start()


def _watch(pidfd: int) -> None:
    select.select([pidfd], [], [])
    os._exit(1)


def failure(error: Exception) -> Failed:
    """An exception as it travels."""
    told = "".join(traceback.format_exception(error)).rstrip()
    return Failed("".join(traceback.format_exception_only(error)).strip(), told, isinstance(error, StopIteration))


class _Worker:
    """Does what it is told; see `main` of this file."""

    def __init__(self, boot: dict[str, Any]) -> None:
        from distrain.iterators.feed.shipment import unship

        cargo = Cargo(**unship(boot["cargo"]))
        self._number: int = boot["number"]
        self._device = cargo.devices[self._number]
        self._iterator = cargo.iterators[self._number]
        self._model, self._converter = cargo.model, cargo.converter
        rng.set_seed(cargo.seed)
        _seat(self._number)
        backend.get_device(self._device).use()
        self._model.to_device(self._device)
        self._shared = SharedArrays(self._model, len(cargo.devices), boot["shared"])
        self._reporter = reporter_of(self._model, Reporter())

    def answer(self, order: Step | Save | Load) -> Done | Saved | Failed:
        """Carries out an order."""
        try:
            if isinstance(order, Step):
                return self._step(order)
            if isinstance(order, Load):
                load(self._iterator, order.state)
            return Saved(save(self._iterator))
        except Exception as error:
            return failure(error)

    def _step(self, order: Step) -> Done:
        for name, value in order.config.items():
            setattr(global_config, name, value)
        self._shared.read_numbers()
        batch = next(self._iterator)
        # Noise is drawn by position, and no two devices may draw the same.
        minibatch.announce(minibatch.Share(order.iteration, self._number * _NOISE_ROWS, len(batch), len(batch)))
        observation = gradients(self._model, self._converter(batch, self._device), self._reporter, order.loss_scale)
        self._shared.write_gradients(self._number)
        summary = DictSummary()
        summary.add(observation, len(batch))
        return Done(len(batch), summary.sums())

    def close(self) -> None:
        """Ends what the iterator has started."""
        if hasattr(self._iterator, "finalize"):
            self._iterator.finalize()


def _seat(number: int) -> None:
    """For models that draw from Python's and NumPy's generators: other numbers on each device, the same in each run."""
    word = int(rng.stream("device", number).integers(2**32))
    np.random.seed(word)
    random.seed(word)


def reporter_of(model: Link, reporter: Reporter) -> Reporter:
    """Makes a model, and the links in it, known to a reporter."""
    reporter.add_observer("main", model)
    reporter.add_observers("main", model.namedlinks(skipself=True))
    return reporter


def gradients(model: Link, arrays: Any, reporter: Reporter, loss_scale: float | None) -> dict[str, Any]:
    """Forward and backward pass of one minibatch.

    Args:
        model: gives the loss, and gets the gradients.
        arrays: what the converter gave.
        reporter: knows the links of the model.
        loss_scale: factor on the initial gradient.

    Returns:
        What was reported.
    """
    observation: dict[str, Any] = {}
    with reporter, reporter.scope(observation):
        if isinstance(arrays, tuple):
            loss = model(*arrays)
        elif isinstance(arrays, dict):
            loss = model(**arrays)
        else:
            loss = model(arrays)
    model.cleargrads()
    loss.backward(loss_scale=loss_scale, release_graph=not config.keep_graph_on_report)
    return observation


def save(iterator: Any) -> State:
    """The state of an iterator; arrays of their own."""
    writer = DictionarySerializer()
    iterator.serialize(writer)
    return {key: array.copy() for key, array in writer.target.items()}


def load(iterator: Any, state: State) -> None:
    """Puts an iterator into a state that `save` gave."""
    NpzDeserializer(state).load(iterator)


def switches() -> Config:
    """The switches of this thread."""
    return {name: getattr(config, name) for name in Defaults.__annotations__}
