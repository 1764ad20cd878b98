"""The process that reads samples for a rank on another host: knocks, works until the rank is gone, and knocks again."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import zmq

from distrain import rng, wire
from distrain.iterators.feed import protocol
from distrain.iterators.feed.feeder import Desk, settle
from distrain.iterators.feed.protocol import Busy, Knock
from distrain.iterators.feed.remote_crew import name_of
from distrain.iterators.feed.server import Cargo, Server
from distrain.wire import KeyPair

_KNOCK_S = 1.0
_BUSY_S = 1.0
_REFUSALS = 3  # after which it is no accident
_POLL_MS = 100  # between two attempts to knock at a closed door


class Refused(Exception):
    """The rank reads something else."""


@dataclass(frozen=True)
class Offer:
    """What workers read, and how they come in.

    Attributes:
        dataset, converter: as loaded.
        keys: of the workers.
        server: public key of the ranks.
        folder: of the keys, for people.
    """

    dataset: Any
    converter: Callable[..., Any] | None
    keys: KeyPair
    server: bytes
    folder: Path


class Line:
    """One connection to a rank; when it breaks it is of no more use.

    Args:
        context: for the socket.
        address: of the rank.
        offer: see `Offer`.

    Attributes:
        socket: to the rank.
        connections: what becomes of its connection.
    """

    def __init__(self, context: zmq.Context[Any], address: str, offer: Offer) -> None:
        self.socket = wire.spoke(context, secrets.token_bytes(12))
        self.connections = wire.Connections(self.socket)
        wire.connect_by_tcp(self.socket, address, offer.keys.secret, offer.keys.public, offer.server)

    def close(self) -> None:
        """Forgets what was not sent."""
        self.connections.close()
        self.socket.close()


class RemoteDesk(Desk):
    """Works until the connection breaks, and lets the rank know once a second that it does.

    Args:
        line: to the rank.
        cargo: what to read.
    """

    def __init__(self, line: Line, cargo: Cargo) -> None:
        super().__init__(line.socket, Server(cargo, self._mark), None, -1)
        self._connections = line.connections
        self._poller.register(line.connections.socket, zmq.POLLIN)
        self._told = 0.0

    def _mark(self, ticket: int, row: int, since_ns: int) -> None:
        now = time.monotonic()
        if ticket and now - self._told >= _BUSY_S:
            self._told = now
            self._line.send_multipart(protocol.pack_reply(Busy(ticket, row)))

    def _take_orders(self) -> bool:
        self._connections.read()
        return not self._connections.lost and super()._take_orders()


def work(number: int, address: str, offer: Offer, say: Callable[[str], None]) -> NoReturn:
    """A worker's life.

    Args:
        number: of the worker.
        address: of its rank.
        offer: see `Offer`.
        say: told what happens to its connection.

    Raises:
        Refused: the rank reads something else.
    """
    settle()
    context = wire.new_context()
    knock = Knock(
        protocol.VERSION,
        number,
        os.getpid(),
        socket.gethostname(),
        type(offer.dataset).__name__,
        len(offer.dataset),
        name_of(offer.converter),
    )
    while True:
        line = Line(context, address, offer)
        welcome = _knock(line, address, protocol.pack_reply(knock)[0], offer, say)
        if welcome is not None:
            seed, on_error = welcome
            say(f"serving {address}")
            rng.set_seed(seed)
            RemoteDesk(line, Cargo(offer.dataset, offer.converter, seed, on_error)).work()
            say(f"{address} is gone; waiting for it")
        line.close()


def _knock(line: Line, address: str, knock: bytes, offer: Offer, say: Callable[[str], None]) -> tuple[int, Any] | None:
    """Knocks until the rank answers; returns seed and `on_error`, or None if the connection broke."""
    poller = zmq.Poller()
    poller.register(line.socket, zmq.POLLIN)
    poller.register(line.connections.socket, zmq.POLLIN)
    knocked, has_complained = 0.0, False
    while True:
        reasons = line.connections.read()
        if not has_complained and (wire.NOT_ON_THE_LIST in reasons or line.connections.refused >= _REFUSALS):
            has_complained = True
            say(
                f"{address} does not let this feeder in: it is no rank that listens for feeders, or the keys in "
                f"{offer.folder} are not those that it knows. Trying on."
            )
        if line.connections.lost:
            return None
        try:
            word, content = protocol.unpack_order(line.socket.recv(zmq.NOBLOCK))
        except wire.Again:
            now = time.monotonic()
            if now - knocked >= _KNOCK_S and _try(line, knock):
                knocked = now
            poller.poll(_POLL_MS)
            continue
        if word == "welcome":
            return content  # type: ignore[no-any-return]
        if word == "refused":
            raise Refused(content)


def _try(line: Line, knock: bytes) -> bool:
    try:
        line.socket.send(knock, zmq.NOBLOCK)
    except wire.Again:  # not connected yet
        return False
    return True
