"""The life of a process that trains on one device, under the orders of the main process; see `messages`.

A worker has its own iterator and its own copy of the model. In each step it takes over the parameters, and leaves its
gradients, see `shared`. It ends with the main process, however that ends.
"""

from __future__ import annotations

import faulthandler
import io
import os
import random
import select
import signal
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from distrain import backend, minibatch, mortal, rng
from distrain.config import config
from distrain.links import Link
from distrain.reporting import DictSummary, Reporter
from distrain.serializers import load_npz, save_npz
from distrain.training.updaters.group import Spoke
from distrain.training.updaters.messages import (
    Done,
    Failed,
    Load,
    Meet,
    Message,
    Saved,
    Step,
    Stop,
    Sum,
    Summed,
    receive,
    send,
    use_switches,
)
from distrain.training.updaters.nccl_gradients import NcclGradients, meet
from distrain.training.updaters.shared import SharedArrays


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


BOOT = (
    "import json, sys; boot = json.loads(sys.argv[1]); sys.path[:] = boot['path']; sys.argv[:] = boot['argv']\n"
    "from distrain.training.updaters import worker; worker.main(boot)"
)
"""What a fresh interpreter is told to do, with `boot` as JSON behind it."""

_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")  # the main process decides
SHOW_STACKS = signal.SIGRTMAX
"""The signal at which a worker prints where it is, whatever it is doing."""

_NOISE_ROWS = 2**32  # of a device: more than a minibatch has samples


def main(boot: dict[str, Any]) -> None:
    """Works until the main process says stop."""
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    faulthandler.register(SHOW_STACKS)
    _end_with(boot["main"], boot["kill"])
    with Connection(boot["control"]) as control:
        try:
            worker = _Worker(boot, control)
            while not isinstance(order := receive(control), Stop):
                if (answer := worker.answer(order)) is not None:
                    send(control, answer)
            worker.close()
        except (EOFError, ConnectionError):  # the main process has closed its end
            return
        except Exception as error:
            send(control, failure(error))


def _end_with(pid: int, is_killed: bool) -> None:
    """Ends this process when that one does.

    The kernel does so at once, but it looks at the thread that has started this process; a worker of another thread
    than the main one relies on a thread of its own.
    """
    if is_killed:
        mortal.die_with(pid)
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
    text = "".join(traceback.format_exception_only(error)).strip()
    return Failed(_sendable(text), _sendable(told), isinstance(error, StopIteration))


def _sendable(text: str) -> str:
    """A text with escapes for what is no Unicode, such as odd bytes of a file's name."""
    return text.encode(errors="backslashreplace").decode()


class _Worker:
    """Does what it is told; see `main` of this file."""

    def __init__(self, boot: dict[str, Any], control: Connection) -> None:
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
        self._group = Spoke(control, self._number, len(cargo.devices))
        self._sums: NcclGradients | None = None

    def answer(self, order: Message) -> Done | Summed | Saved | Failed | None:
        """Carries out an order, any but `Stop`; None if the others are told on the way."""
        try:
            if isinstance(order, Step):
                return self._step(order)
            if isinstance(order, Sum):
                assert self._sums is not None
                self._sums.sum(order.weight)
                return Summed()
            if isinstance(order, Meet):
                self._sums, _ = meet(self._shared, self._group, self._device)
                return None
            if isinstance(order, Load):
                load(self._iterator, order.state)
            return Saved(save(self._iterator))
        except Exception as error:
            return failure(error)

    def _step(self, order: Step) -> Done:
        use_switches(order.switches)
        self._shared.read_numbers()
        batch = next(self._iterator)
        # Noise is drawn by position, and no two devices may draw the same.
        minibatch.announce(minibatch.Share(order.iteration, self._number * _NOISE_ROWS, len(batch), len(batch)))
        observation = gradients(self._model, self._converter(batch, self._device), self._reporter, order.loss_scale)
        if self._sums is None:
            self._shared.write_gradients(self._number)
        else:
            self._shared.write_flags(self._number)
        summary = DictSummary()
        summary.add(observation, len(batch))
        return Done(len(batch), {key: (float(x), float(x2), float(n)) for key, (x, x2, n) in summary.sums().items()})

    def close(self) -> None:
        """Ends what the iterator and NCCL have started."""
        if self._sums is not None:
            self._sums.abort()
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


def save(iterator: Any) -> bytes:
    """The state of an iterator, as the bytes of an npz file."""
    stream = io.BytesIO()
    save_npz(stream, iterator, compression=False)
    return stream.getvalue()


def load(iterator: Any, state: bytes) -> None:
    """Puts an iterator into a state that `save` gave."""
    load_npz(io.BytesIO(state), iterator)
