"""Keys for CURVE, and who may enter with which."""

from __future__ import annotations

import struct
from collections.abc import Container
from typing import Any, NamedTuple

import zmq
from zmq.utils import z85

from distrain.errors import WireError


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
