"""The one door to ZeroMQ, and to msgpack of what others may have sent: bounded messages, sockets that know their peers.

packing       values as messages, and what a message may describe
sockets       hubs and spokes, locally and over TCP
keys          keys for CURVE, and who may enter
connections   what becomes of the connections of a TCP socket

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

from distrain.wire.connections import NOT_ON_THE_LIST, Connections
from distrain.wire.keys import Authenticator, KeyPair, keys_of, new_keys, raw_key
from distrain.wire.packing import MAX_FRAME, dtype_of, pack, shape_of, shown, unpack
from distrain.wire.sockets import (
    DONT_WAIT,
    Again,
    Unreachable,
    connect_by_tcp,
    hub,
    listen_locally,
    listen_on_tcp,
    local_name,
    new_context,
    send_to,
    spoke,
    waiting_messages,
)

__all__ = [
    "DONT_WAIT",
    "MAX_FRAME",
    "NOT_ON_THE_LIST",
    "Again",
    "Authenticator",
    "Connections",
    "KeyPair",
    "Unreachable",
    "connect_by_tcp",
    "dtype_of",
    "hub",
    "keys_of",
    "listen_locally",
    "listen_on_tcp",
    "local_name",
    "new_context",
    "new_keys",
    "pack",
    "raw_key",
    "send_to",
    "shape_of",
    "shown",
    "spoke",
    "unpack",
    "waiting_messages",
]
