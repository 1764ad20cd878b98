"""Sockets in pairs: a hub that knows its spokes by name, locally and over TCP with CURVE."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

import zmq

from distrain.errors import ArgumentError
from distrain.wire.packing import MAX_FRAME

_HEARTBEAT_MS = 1000
_SILENCE_MS = 5000  # after which a TCP peer counts as lost

DONT_WAIT = zmq.DONTWAIT
Again = zmq.Again
Unreachable = zmq.ZMQError
_SocketBase = zmq.backend.Socket
_NO_WAIT, _NO_WAIT_MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
_EVENTS_OPTION, _MORE_OPTION, _READABLE = int(zmq.EVENTS), int(zmq.RCVMORE), int(zmq.POLLIN)


def new_context() -> zmq.Context[Any]:
    """A context of its own, with one thread for input and output."""
    context: zmq.Context[Any] = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, 64)
    return context


def new_socket(context: zmq.Context[Any], kind: int, pending: int) -> zmq.Socket[Any]:
    """A socket that takes no longer frames than `MAX_FRAME`, and does not wait at its end.

    Args:
        context: it belongs to.
        kind: of ZeroMQ's, such as zmq.PAIR.
        pending: messages that may wait in each direction.
    """
    socket: zmq.Socket[Any] = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
    socket.setsockopt(zmq.SNDHWM, pending)
    socket.setsockopt(zmq.RCVHWM, pending)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
    return socket


def local_name() -> str:
    """A fresh address for a local socket, which nobody can guess; it says whose it is."""
    return f"ipc://@distrain-{os.getpid()}-{secrets.token_hex(16)}"


def hub(context: zmq.Context[Any], pending: int = 1000) -> zmq.Socket[Any]:
    """A ROUTER that refuses to send to strangers; give it addresses with `listen_locally` and `listen_on_tcp`.

    Args:
        context: it belongs to.
        pending: messages a peer may have waiting in each direction.
    """
    socket = new_socket(context, zmq.ROUTER, pending)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket


def send_to(hub: zmq.Socket[Any], member: bytes, message: bytes) -> bool:
    """Sends a message of one frame without waiting; False if the hub knows no such peer, or its queue is full."""
    try:
        _SocketBase.send(hub, member, _NO_WAIT_MORE)  # in half the time of send_multipart
        _SocketBase.send(hub, message, _NO_WAIT)
    except Unreachable:
        return False
    return True


def waiting_messages(hub: zmq.Socket[Any]) -> Iterator[tuple[bytes, list[bytes]]]:
    """The messages that have arrived: from whom, and their frames."""
    while int(_SocketBase.get(hub, _EVENTS_OPTION)) & _READABLE:  # several times faster than to be told Again
        member = _SocketBase.recv(hub, _NO_WAIT)
        frames = []
        while _SocketBase.get(hub, _MORE_OPTION):
            frames.append(_SocketBase.recv(hub, _NO_WAIT))
        yield member, frames


def listen_locally(socket: zmq.Socket[Any]) -> str:
    """Binds a socket to a fresh local address, for processes of this user only; returns the address."""
    name = local_name()
    socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
    socket.bind(name)
    return name


def listen_on_tcp(socket: zmq.Socket[Any], endpoint: str, secret: bytes, public: bytes, domain: str) -> str:
    """Binds a socket to TCP with CURVE; an `Authenticator` of the same context must answer for the domain.

    Args:
        socket: to bind.
        endpoint: `tcp://host:port`; port 0 takes any free one.
        secret: key of the server, 40 characters of Z85.
        public: its public half.
        domain: under which the authenticator is asked.

    Returns:
        The endpoint with the port that was taken.

    Raises:
        ArgumentError: the endpoint is no TCP address or cannot be taken.
    """
    if not endpoint.startswith("tcp://"):
        raise ArgumentError(f"{endpoint!r} is no TCP address; write tcp://host:port")
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
    socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
    _use_heartbeats(socket)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise ArgumentError(f"cannot listen on {endpoint}: {error}. Choose another port, or 0 for any free one.") from (
            error
        )
    return socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()  # type: ignore[union-attr]


def spoke(context: zmq.Context[Any], identity: bytes, pending: int = 1000) -> zmq.Socket[Any]:
    """A DEALER that a hub knows by its identity; not connected yet."""
    socket = new_socket(context, zmq.DEALER, pending)
    socket.setsockopt(zmq.IDENTITY, identity)
    return socket


def connect_by_tcp(socket: zmq.Socket[Any], endpoint: str, secret: bytes, public: bytes, server: bytes) -> None:
    """Connects a client socket to the server of that public key, again and again until it is there.

    Messages can be sent while there is a connection, and are lost with it.

    Raises:
        ArgumentError: the endpoint is no TCP address.
    """
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    _use_heartbeats(socket)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ArgumentError(f"cannot connect to {endpoint!r}: {error}. Write tcp://host:port.") from error


def _use_heartbeats(socket: zmq.Socket[Any]) -> None:
    """Makes a peer that is silent for a few seconds (stopped, or cut off) count as lost; ZeroMQ's thread sees to it."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS)
