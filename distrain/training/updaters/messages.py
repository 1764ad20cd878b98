"""What the processes of several devices say to each other. Messages are msgpack: nothing is unpickled from a socket.

main ── socket ──► worker      Step(iteration, …), Sum(weight), Save(), Load(state), Meet(), Tell(value), Stop()
     ◄───────────              Done(count, reports), Summed(), Saved(state), Tell(value), Failed(text, …)
"""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np

from distrain.config import Defaults, config, global_config
from distrain.errors import WireError
from distrain.reporting import Sums

_LARGEST = 1 << 30  # bytes; the order of an epoch may be in the state of an iterator

Switches: TypeAlias = dict[str, bool | str]
"""The switches of a thread by name; the dtype as NumPy writes it."""


class Step(NamedTuple):
    """An order: forward and backward pass of the next minibatch.

    Attributes:
        iteration: steps before this one.
        switches: of the main process.
        loss_scale: factor on the initial gradient.
    """

    iteration: int
    switches: Switches
    loss_scale: float | None


class Sum(NamedTuple):
    """An order: sum the gradients of the step with the other processes.

    Attributes:
        weight: of this process's gradients.
    """

    weight: float


class Meet(NamedTuple):
    """An order: start NCCL, together with the other processes."""


class Tell(NamedTuple):
    """A value of one process for the others, or the values of all of them; see `group`."""

    value: Any


class Save(NamedTuple):
    """An order: tell the state of the iterator."""


class Load(NamedTuple):
    """An order: put the iterator into a state, the bytes of an npz file."""

    state: bytes


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


class Summed(NamedTuple):
    """The answer to `Sum`."""


class Saved(NamedTuple):
    """The answer to `Save` and `Load`: the state, as the bytes of an npz file."""

    state: bytes


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


Message: TypeAlias = Step | Sum | Meet | Tell | Save | Load | Stop | Done | Summed | Saved | Failed

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}


def send(connection: Connection, message: Message) -> None:
    """Sends a message.

    Raises:
        OSError: the other process is gone.
    """
    from distrain import wire

    connection.send_bytes(wire.pack([type(message).__name__, *message]))


def receive(connection: Connection) -> Message:
    """Waits for a message.

    Raises:
        EOFError, ConnectionError: the other process is gone.
        BlockingIOError: it has stopped in the middle of a message, if the connection has a time limit.
        WireError: it has sent something else.
    """
    from distrain import wire

    try:
        content = wire.unpack(connection.recv_bytes(_LARGEST))
    except (ConnectionError, BlockingIOError):
        raise
    except OSError as error:
        raise WireError(f"a message of more than {_LARGEST} bytes, or none at all: {error}") from error
    if not isinstance(content, list) or not content or not isinstance(content[0], str):
        raise WireError("a message is a list that begins with a word")
    word, *fields = content
    kind = _KINDS.get(word)
    if kind is None or len(fields) != len(kind._fields):
        raise WireError(f"{wire.shown(word)} with {len(fields)} fields is no message of a device's process")
    return kind(*fields)


def switches() -> Switches:
    """The switches of this thread."""
    return {name: getattr(config, name) for name in Defaults.__annotations__} | {"dtype": np.dtype(config.dtype).str}


def use_switches(given: Switches) -> None:
    """Makes them the defaults of this process."""
    for name, value in given.items():
        setattr(global_config, name, np.dtype(str(value)).type if name == "dtype" else value)
