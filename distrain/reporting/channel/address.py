"""Where rank 0 listens, and how the others get in: bound first, then announced.

If all ranks are on one host (and in one network namespace) the socket is local and has no file; processes of other
users are not let in. Otherwise it is a TCP port with CURVE and an allow-list: the keys are made for this training and
reach the ranks through MPI. Either way a rank is known by an identity that nobody can guess.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import resource
import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import zmq

from distrain import wire
from distrain.errors import ArgumentError
from distrain.reporting.channel.messages import MAX_MESSAGE

VARIABLE = "DISTRAIN_SIDE_CHANNEL"

_PENDING = 256  # messages of a rank that may wait in ZeroMQ in each direction
_CONNECT_MS = 3000
_OTHER_FILES = 512  # that rank 0 may want to have open
_SIOCGIFADDR = 0x8915  # of Linux


@dataclass(frozen=True)
class Announcement:
    """What the other ranks must know to get in. Goes through MPI only.

    Attributes:
        endpoints: of the socket, by host; all others take that of the host "".
        token: from which the identities of the ranks follow.
        server: rank 0's public key; empty for a local socket.
        public, secret: the keys of the other ranks.
    """

    endpoints: dict[str, str]
    token: bytes = field(repr=False)
    server: bytes = b""
    public: bytes = b""
    secret: bytes = field(default=b"", repr=False)

    def identity(self, rank: int) -> bytes:
        """By which rank 0 knows a rank."""
        return b"r" + hashlib.blake2b(f"rank {rank}".encode(), key=self.token, digest_size=24).digest()


@dataclass
class Door:
    """Rank 0's sockets, not yet in use.

    Attributes:
        context: of them all; they end with it.
        hub: the ROUTER.
        bound: its address.
        connections: what becomes of its connections.
        authenticator: who answers for them; None for a local socket.
    """

    context: zmq.Context[Any]
    hub: zmq.Socket[Any]
    bound: str
    connections: wire.Connections
    authenticator: wire.Authenticator | None


def listen(hosts: Sequence[str], is_one_host: bool) -> tuple[Door, Announcement]:
    """Opens rank 0's socket.

    Args:
        hosts: of all ranks, rank 0's first: "name" or "name/network namespace".
        is_one_host: whether a local socket reaches them all; `DISTRAIN_SIDE_CHANNEL=tcp://host:port` asks for TCP
            anyway.

    Raises:
        ArgumentError: the variable has no address that can be taken, or this process may not open so many files.
        zmq.ZMQError: the system has no room for another socket.
    """
    asked = os.environ.get(VARIABLE, "")
    _make_room(len(hosts))
    context = wire.new_context()
    try:
        hub = wire.hub(context, _PENDING)
        hub.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        token = secrets.token_bytes(32)
        if is_one_host and not asked:
            connections = wire.Connections(hub)
            bound = wire.listen_locally(hub)
            return Door(context, hub, bound, connections, None), Announcement({"": bound}, token)
        server, others = wire.new_keys(), wire.new_keys()
        authenticator = wire.Authenticator(context, frozenset([wire.raw_key(others.public)]))
        connections = wire.Connections(hub)
        bound = wire.listen_on_tcp(hub, asked or "tcp://*:0", server.secret, server.public, "side channel")
        endpoints = _endpoints(bound, hosts)
        announced = Announcement(endpoints, token, server.public, others.public, others.secret)
        return Door(context, hub, bound, connections, authenticator), announced
    except BaseException:
        context.destroy(linger=0)
        raise


def connect(announced: Announcement, rank: int, host: str) -> tuple[zmq.Context[Any], zmq.Socket[Any]]:
    """A rank's socket. It is connected when this returns, unless that takes longer than three seconds.

    Raises:
        ArgumentError: there is no such address.
        zmq.ZMQError: the system has no room for another socket.
    """
    context = wire.new_context()
    try:
        spoke = wire.spoke(context, announced.identity(rank), _PENDING)
        spoke.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        endpoint = announced.endpoints.get(host, announced.endpoints[""])
        if announced.server:
            wire.connect_by_tcp(spoke, endpoint, announced.secret, announced.public, announced.server)
        else:
            spoke.setsockopt(zmq.IMMEDIATE, 1)  # nothing piles up for a hub that is not there
            spoke.connect(endpoint)
        spoke.poll(_CONNECT_MS, zmq.POLLOUT)
    except BaseException:
        context.destroy(linger=0)
        raise
    return context, spoke


def namespace() -> str:
    """Names the network that this process sees: local sockets do not reach beyond it."""
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return ""


def is_off() -> bool:
    """Whether the user wants no side channel."""
    return os.environ.get(VARIABLE, "").lower() in ("off", "0")


def _make_room(size: int) -> None:
    """Lets this process have a connection for every rank, besides what else it opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = size + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ArgumentError(
            f"{size} ranks need that many connections, and this process may open {hard} files only; raise the limit "
            "(`ulimit -Hn`)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _endpoints(bound: str, hosts: Sequence[str]) -> dict[str, str]:
    """Where to connect from each host; "" stands for all that are not named."""
    found = re.fullmatch(r"tcp://(.+):(\d+)", bound)
    if found is None or found[1] not in ("0.0.0.0", "*", "[::]"):
        return {"": bound}
    own, port = hosts[0], found[2]
    other = next((host for host in hosts if host != own), own)
    address = _address_towards(other.partition("/")[0]) or _first_address() or own
    return {"": f"tcp://{address}:{port}", own: f"tcp://127.0.0.1:{port}"}


def _address_towards(host: str) -> str | None:
    """That of this host in the network through which it reaches another; None if that cannot be told."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # connecting sends nothing
            probe.connect((host, 9))
            address = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if address.startswith("127.") else address


def _first_address() -> str | None:
    """The first address of this host that is not for itself alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    return None
