"""What becomes of the connections of a TCP socket."""

from __future__ import annotations

import secrets
import struct
import time
from typing import Any

import zmq

from distrain.wire.sockets import new_socket

_EVENTS = 10_000  # that may wait to be read
_QUIET_MS = 20
_CLOSE_S = 2.0
_EVENT = struct.Struct("=HI")
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
        self.socket: zmq.Socket[Any] = new_socket(socket.context, zmq.PAIR, _EVENTS)
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
