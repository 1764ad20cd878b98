"""The one door to ZeroMQ and msgpack: bounded messages, and sockets that know their peers.

Guarantees:

- Nothing is unpickled. A message is msgpack of plain values; arrays travel as raw bytes beside a description that is
  checked before any memory is taken for them.
- `unpack` takes no more memory than a small multiple of the message, and 64 MiB: lengths in it are bounded before it
  allocates. (The 64 MiB are for a thousand lists in each other, the deepest that msgpack goes.)
- Local sockets have a name in Linux's abstract namespace, so that no file is left behind, and let in processes of the
  same user only. TCP sockets let in those whose CURVE key is on the list; everybody else is refused before a byte of a
  message is read.
- No socket outlives its context, and none waits at its end (LINGER is 0).
- What a socket is not polled for does not pile up: events and messages that nobody reads are bounded in number.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import struct
import time
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import msgpack
import numpy as np
import zmq
from zmq.utils import z85

from distrain.errors import ArgumentError, WireError

MAX_FRAME = 1 << 26
"""Bytes of a frame that a socket accepts; longer payloads are cut into several."""

_MAX_ITEMS = 4096  # of one array or map: a header of five bytes must not make msgpack take gigabytes
_MAX_ELEMENTS = 1 << 40  # of an array
_DTYPE = re.compile(r"[<>|=]?[biufcSUmM][0-9]{1,9}(\[[0-9]{0,9}[A-Za-z]{1,2}\])?", re.ASCII)  # as numpy.dtype.str is

_HEARTBEAT_MS = 1000
_SILENCE_MS = 5000  # after which a TCP peer counts as lost
_EVENTS = 10_000  # of connections that may wait to be read
_QUIET_MS = 20
_CLOSE_S = 2.0
_EVENT = struct.Struct("=HI")

DONT_WAIT = zmq.DONTWAIT
_SocketBase = zmq.backend.Socket
_NO_WAIT, _NO_WAIT_MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
_EVENTS_OPTION, _MORE_OPTION, _READABLE = int(zmq.EVENTS), int(zmq.RCVMORE), int(zmq.POLLIN)
Again = zmq.Again
Unreachable = zmq.ZMQError


def pack(value: Any) -> bytes:
    """Plain values (None, bool, int, float, str, bytes, lists, dicts) as bytes.

    Raises:
        WireError: a value of another kind, or an integer of more than 64 bits.
    """
    try:
        return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"this cannot be sent: {error}") from error


def unpack(data: bytes | memoryview) -> Any:
    """What `pack` has packed.

    Raises:
        WireError: the bytes are no such message.
    """
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"malformed message of {len(data)} bytes: {type(error).__name__}: {error}") from error


def dtype_of(text: Any) -> np.dtype[Any]:
    """The dtype of an array that a message describes: numbers, fixed-length strings and times, never objects.

    Raises:
        WireError: it is none of these.
    """
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise WireError(f"arrays of dtype {shown(text)} cannot be received")
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{text!r} is no dtype") from error
    if dtype.itemsize > MAX_FRAME:
        raise WireError(f"an element of dtype {text!r} is larger than a frame")
    return dtype


def shape_of(value: Any, limit: int) -> tuple[int, ...]:
    """The shape of an array that a message describes.

    Args:
        value: what stands in the message.
        limit: the most elements that the array may have.

    Raises:
        WireError: it is no list of at most 32 sizes, or of more elements than the limit.
    """
    if not isinstance(value, list) or len(value) > 32 or any(type(size) is not int or size < 0 for size in value):
        raise WireError(f"a shape is a list of at most 32 sizes, not {shown(value)}")
    # A size of 0 makes the array small, but NumPy still refuses others that are too large.
    if math.prod(value) > limit or math.prod(size or 1 for size in value) > _MAX_ELEMENTS:
        raise WireError(f"an array of shape {value} has more elements than the {limit} that it may have")
    return tuple(value)


def shown(value: Any) -> str:
    """What a message holds, for an error: short, however long or nested it is."""
    if isinstance(value, (str, bytes)):
        return repr(value[:40])
    if isinstance(value, (int, float, type(None))):
        return repr(value)
    return f"a {type(value).__name__}"


def new_context() -> zmq.Context[Any]:
    """A context of its own, with one thread for input and output."""
    context: zmq.Context[Any] = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, 64)
    return context


def _socket(context: zmq.Context[Any], kind: int, pending: int) -> zmq.Socket[Any]:
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
    socket = _socket(context, zmq.ROUTER, pending)
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
    socket = _socket(context, zmq.DEALER, pending)
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


class KeyPair(NamedTuple):
    """Keys for CURVE, 40 characters of Z85 each."""

    public: bytes
    secret: bytes


def new_keys() -> KeyPair:
    """A fresh pair of keys."""
    return KeyPair(*zmq.curve_keypair())


def keys_of(secret: bytes) -> KeyPair:
    """The pair that a secret key belongs to.

    Raises:
        WireError: it is no key.
    """
    try:
        return KeyPair(zmq.curve_public(secret), secret)
    except (zmq.ZMQError, ValueError) as error:
        raise WireError(f"a key is 40 characters of Z85, not these {len(secret)} bytes") from error


def raw_key(text: bytes) -> bytes:
    """The 32 bytes of a key, as an `Authenticator` sees them.

    Raises:
        WireError: it is no key.
    """
    try:
        raw: bytes = z85.decode(text)
    except (KeyError, ValueError, struct.error) as error:
        raise WireError(f"a key is 40 characters of Z85, not {text!r:.60}") from error
    if len(raw) != 32:
        raise WireError(f"a key is 40 characters of Z85, not these {len(text)} bytes")
    return raw


NOT_ON_THE_LIST = "its key is not on the list"


class Connections:
    """What becomes of the connections of a TCP socket; make it before the socket is bound or connected.

    Its own socket is to be polled, and `read` called when it is readable.

    Args:
        socket: to watch.

    Attributes:
        socket: to poll.
        refused: connections that ended before both sides knew each other.
        lost: connections that ended later.
    """

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        address = f"inproc://connections-{secrets.token_hex(8)}"
        socket.monitor(address, _KNOWN_EVENTS)
        self.socket: zmq.Socket[Any] = _socket(socket.context, zmq.PAIR, _EVENTS)
        self.socket.connect(address)
        self.refused = 0
        self.lost = 0
        self._watched = socket
        self._open: dict[int, bool] = {}  # by file descriptor: whether both sides know each other
        self._reason = ""

    def read(self) -> list[str]:
        """Reads what has happened; returns why connections were refused."""
        reasons: list[str] = []
        while True:
            try:
                event, value = _EVENT.unpack(self.socket.recv_multipart(zmq.NOBLOCK)[0])
            except zmq.Again:
                return reasons
            if event in (zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED):
                self._open[value] = False
                self._reason = ""
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:  # that it does not say whose
                newest = next((fd for fd, is_known in reversed(self._open.items()) if not is_known), None)
                if newest is not None:
                    self._open[newest] = True
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._reason = NOT_ON_THE_LIST
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                self._reason = _PROTOCOL_ERRORS.get(value, "its handshake is malformed")
            elif event == zmq.EVENT_DISCONNECTED:
                if self._open.pop(value, False):
                    self.lost += 1
                else:
                    self.refused += 1
                    reasons.append(self._reason or "it does not speak ZeroMQ's protocol, or left at once")

    def close(self) -> None:
        """Looks away; nothing new may be coming, that is, no more connections are accepted.

        ZeroMQ's thread waits where too many events have not been read, and closing the socket would wait for it.
        """
        end = time.monotonic() + _CLOSE_S
        while self.socket.poll(_QUIET_MS) and time.monotonic() < end:
            self.read()
        self._watched.disable_monitor()
        self.socket.close()


_KNOWN_EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)
_PROTOCOL_ERRORS = {
    int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH): "it does not use CURVE",
    int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): "it has another key of the server",
}


class Authenticator:
    """Says who may enter: answers ZeroMQ's questions (RFC 27, ZAP) about the keys of TCP peers.

    Its socket is to be polled by whoever polls the sockets it guards, and `answer` called when it is readable.

    Args:
        context: of the sockets that it guards.
        allowed: public keys of clients, 32 bytes each; asked anew each time.

    Attributes:
        socket: to poll.
        refused: how many handshakes were refused.
    """

    def __init__(self, context: zmq.Context[Any], allowed: Container[bytes]) -> None:
        self.socket: zmq.Socket[Any] = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")
        self.refused = 0
        self._allowed = allowed

    def answer(self) -> bool:
        """Answers one question; False if there was none."""
        try:
            question = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        version, request, _domain, _address, _identity, mechanism, *credentials = question
        welcome = mechanism == b"CURVE" and len(credentials) == 1 and credentials[0] in self._allowed
        if not welcome:
            self.refused += 1
        status = [b"200", b"OK"] if welcome else [b"400", b"this key is not on the list"]
        self.socket.send_multipart([version, request, *status, b"", b""])
        return True
