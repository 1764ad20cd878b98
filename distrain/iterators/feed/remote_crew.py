"""The feeders of a rank on other hosts: lets them in, keeps what they do, and sees when they are gone.

They come and go as they like. Whoever has a key on the list (ZeroMQ's CURVE) and reads the same dataset gets work; the
rows come back as frames, and the rank writes them to their slot. A feeder that is lost, stopped or hung is forgotten
and its work done by others; should it still answer, that is refused, and it may knock again.

Its sockets have a ZeroMQ thread of their own, which does the encryption; what happens at the TCP port does not hold up
the local feeders.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import zmq

from distrain import wire
from distrain.errors import ArgumentError, WireError
from distrain.iterators.feed import protocol
from distrain.iterators.feed.keys import AllowList, server_keys
from distrain.iterators.feed.layout import unpack_layout
from distrain.iterators.feed.protocol import Busy, Cancelled, Done, Failed, Knock, Reply
from distrain.iterators.feed.server import Cargo
from distrain.iterators.feed.statistics import Statistics
from distrain.iterators.feed.window import Member, Piece, Window

_PENDING = 1000  # messages from or to a feeder; many times what it is given to do at a time
_PING_S = 1.0
_ALARM_S = 1.0  # of asking everybody again and again, after a connection has ended
_LOOK_S = 0.1
_PAUSE_S = 2.0  # without a look: this process may have been stopped, and its feeders with it
_DOOR_S = 0.02  # between two looks at who wants to come in, while the rank is training
_SLOW_S = 0.02
_PING = wire.pack(["ping"])
_STOP = wire.pack(["stop"])


@dataclass(eq=False)
class RemoteFeeder:
    """A feeder on another host.

    Attributes:
        identity: by which it is addressed; it takes another one whenever it knocks.
        name: for people.
        since: when it was last heard of, or given something to do.
        current: the ticket and the row that it has last told of.
    """

    identity: Member
    name: str
    since: float
    current: tuple[int, int] = (0, 0)


class RemoteCrew:
    """All remote feeders of a feed.

    Args:
        endpoint: where to listen, `tcp://host:port`; port 0 takes any free one.
        folder: of the keys.
        cargo: what is read.
        sample_timeout: seconds for a sample; None: no limit.
        window: the feeders' work.
        suspect: told the piece, the row, the cause and the last words when a feeder is lost over a single sample.
        statistics: where joins, losses and refusals are noted.

    Attributes:
        address: for the feeders to connect to.

    Raises:
        ArgumentError: the endpoint is no TCP address or cannot be taken.
        FeedError: the keys cannot be used.
    """

    def __init__(
        self,
        endpoint: str,
        folder: Path,
        cargo: Cargo,
        sample_timeout: float | None,
        window: Window,
        suspect: Callable[[Piece, int, str, str], None],
        statistics: Statistics,
    ) -> None:
        self._cargo = cargo
        self._sample_timeout = sample_timeout
        self._window = window
        self._suspect = suspect
        self._statistics = statistics
        self._feeders: dict[Member, RemoteFeeder] = {}
        self._gone: set[Member] = set()
        self._looked = self._resumed = self._pinged = self._attended = 0.0
        self._alarm_until = 0.0
        host, port = _parts(endpoint)
        keys = server_keys(folder)
        self._context = wire.new_context()
        try:
            self._authenticator = wire.Authenticator(self._context, AllowList(folder))
            self._hub = wire.hub(self._context, _PENDING)
            self._connections = wire.Connections(self._hub)
            endpoint = f"tcp://{_numeric(host)}:{port}"
            self._bound = wire.listen_on_tcp(self._hub, endpoint, keys.secret, keys.public, "feed")
        except ArgumentError:
            self._context.destroy(linger=0)
            raise
        self.address = f"tcp://{socket.gethostname() if host == '*' else host}:{self._bound.rpartition(':')[2]}"

    def __contains__(self, member: Member) -> bool:
        return member in self._feeders

    def __len__(self) -> int:
        return len(self._feeders)

    def register(self, poller: zmq.Poller) -> None:
        """Enters the sockets at which `read` has something to do."""
        for one in (self._hub, self._authenticator.socket, self._connections.socket):
            poller.register(one, zmq.POLLIN)

    def read(self, receive: Callable[[Member, Reply], None]) -> None:
        """Lets feeders in, and reads what they have sent.

        Args:
            receive: gets the answers to work; raises WireError where they are none.
        """
        now = time.monotonic()
        if now - self._attended >= _DOOR_S:
            self._attended = now
            self._attend_door(now)
        while True:
            try:
                member, *frames = self._hub.recv_multipart(zmq.NOBLOCK, copy=False)
            except wire.Again:
                return
            self._hear(member.bytes, [frame.buffer for frame in frames], receive)

    def _attend_door(self, now: float) -> None:
        while self._authenticator.answer():
            pass
        lost = self._connections.lost
        for reason in self._connections.read():
            self._statistics.note_refused(f"a connection to {self.address}: {reason}")
        if self._connections.lost > lost:
            self._alarm_until = now + _ALARM_S

    def _hear(self, member: Member, frames: list[memoryview], receive: Callable[[Member, Reply], None]) -> None:
        try:
            reply = protocol.unpack_reply(frames)
            if isinstance(reply, Knock):
                self._answer(member, reply)
                return
            feeder = self._feeders.get(member)
            if feeder is None:
                raise WireError(f"a message of a feeder that is not known, or not any more, at {self.address}")
            feeder.since = time.monotonic()
            if isinstance(reply, Busy):
                feeder.current = reply.ticket, reply.row
            elif isinstance(reply, Done):
                receive(member, _checked(reply))
            elif isinstance(reply, (Failed, Cancelled)):
                receive(member, reply)
            else:
                raise WireError("a message that only local feeders send")
        except WireError as error:
            self._statistics.note_refused(str(error))
            self._dismiss(member, f"refused: {error}")

    def _answer(self, member: Member, knock: Knock) -> None:
        """Somebody wants work.

        Raises:
            WireError: they would read something else.
        """
        own, dataset, length = self._cargo.dataset, knock.dataset, knock.length
        converter = name_of(self._cargo.converter)
        reason = ""
        if knock.version != protocol.VERSION:
            reason = f"it speaks version {knock.version} of the protocol, this rank version {protocol.VERSION}"
        elif (dataset, length) != (type(own).__name__, len(own)):
            reason = f"it reads a {dataset} of {length} samples, this rank a {type(own).__name__} of {len(own)}"
        elif knock.converter != converter:
            reason = f"its converter is {knock.converter or 'none'}, that of this rank {converter or 'none'}"
        if reason:
            text = f"{self.address} refuses feeder {knock.number} (pid {knock.pid} on {knock.host}): {reason}"
            self.send(member, wire.pack(["refused", text]))
            raise WireError(text)
        if member not in self._feeders:
            name = f"remote feeder {knock.number} (pid {knock.pid} on {knock.host})"
            self._feeders[member] = RemoteFeeder(member, name, time.monotonic())
            self._window.join(member)
            self._statistics.joined += 1
        self.send(member, wire.pack(["welcome", self._cargo.seed, self._cargo.on_error]))

    def send(self, member: Member, message: bytes) -> bool:
        """Sends a message; False if it cannot be done. That the feeder is gone is then noted, and seen to by `look`."""
        try:
            self._hub.send_multipart([member, message], zmq.NOBLOCK)
        except wire.Again:  # it is there, but does not read
            return False
        except wire.Unreachable:
            self._gone.add(member)
            return False
        feeder = self._feeders.get(member)
        if feeder is not None and message is not _PING and self._window.load(member) <= 1:
            feeder.since = time.monotonic()  # it begins now
        return True

    def queued(self, now: float) -> Iterator[tuple[Member, list[int]]]:
        """Feeders and their tickets that they have not begun with, and will not at once."""
        for feeder in list(self._feeders.values()):
            tickets = self._window.tickets_of(feeder.identity)[1:]  # it is working at the first one
            if now - feeder.since < _SLOW_S:
                del tickets[:1]
            yield feeder.identity, tickets

    def look(self, now: float) -> None:
        """Finds feeders that are gone, and leaves those alone that hang."""
        if now - self._looked < _LOOK_S:
            return
        if now - self._looked > _PAUSE_S:
            self._resumed = now
        self._looked = now
        if now - self._pinged >= _PING_S or now < self._alarm_until:
            self._pinged = now
            for member in self._feeders:
                self.send(member, _PING)
        for member in self._gone & self._feeders.keys():
            self._lose(self._feeders[member], "connection lost")
        self._gone.clear()
        limit = self._sample_timeout
        for feeder in list(self._feeders.values()):
            since = max(feeder.since, self._resumed)
            if limit is not None and self._window.load(feeder.identity) and now - since > limit:
                self._dismiss(feeder.identity, f"no end after {limit:g} s")

    def _dismiss(self, member: Member, cause: str) -> None:
        """Does without a feeder, which may knock again."""
        self.send(member, _STOP)
        if member in self._feeders:
            self._lose(self._feeders[member], cause)

    def _lose(self, feeder: RemoteFeeder, cause: str) -> None:
        member, window = feeder.identity, self._window
        del self._feeders[member]
        first = next(iter(window.tickets_of(member)), 0)
        suspect = window.piece_of(first, member)
        orphans = [piece for piece in window.leave(member) if piece.job.is_wanted]
        window.waiting[:0] = orphans
        self._statistics.note_lost(feeder.name, cause)
        if suspect not in orphans or cause.startswith("refused"):
            return
        if suspect.stop - suspect.start == 1 or self._cargo.converter is not None:
            row = feeder.current[1] if feeder.current[0] == first else suspect.start
            self._suspect(suspect, min(max(row, suspect.start), suspect.stop - 1), cause, "")
        else:  # which row it was cannot be told, but each is alone from now on
            at = window.waiting.index(suspect)
            window.waiting[at : at + 1] = suspect.job.scatter(suspect)

    def activity(self, now: float) -> str:
        """What the feeders are doing, for a warning."""
        if not self._feeders:
            return f"no remote feeder is connected; start some with `distrain feed --connect {self.address} …`"
        return "; ".join(
            f"{feeder.name} has {self._window.load(feeder.identity)} pieces of work and was last heard of "
            f"{now - feeder.since:.1f} s ago"
            for feeder in self._feeders.values()
        )

    def close(self) -> None:
        """Closes the port. The feeders find that out, and wait for the next rank."""
        self._hub.unbind(self._bound)
        self._connections.close()
        self._context.destroy(linger=0)
        self._feeders.clear()


def endpoint_of(endpoint: str, intra_rank: int) -> str:
    """Where a rank listens: its number on the node is added to the port, unless that is 0.

    Raises:
        ArgumentError: the endpoint is no TCP address with a port.
    """
    host, port = _parts(endpoint)
    return f"tcp://{host}:{port + intra_rank if port else 0}"


def name_of(converter: Callable[..., object] | None) -> str:
    """What both sides call a converter; empty if there is none."""
    return "" if converter is None else getattr(converter, "__qualname__", type(converter).__qualname__)


def _parts(endpoint: str) -> tuple[str, int]:
    found = re.fullmatch(r"tcp://([^\s:/]+):(\d{1,5})", endpoint) if isinstance(endpoint, str) else None
    if found is None or int(found[2]) > 65535:
        raise ArgumentError(
            f"feeders={endpoint!r} is no address to listen at; write tcp://host:port, tcp://*:port for all networks of "
            "this host, and port 0 for any free one"
        )
    return found[1], int(found[2])


def _numeric(host: str) -> str:
    if host == "*":
        return host
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise ArgumentError(f"feeders='tcp://{host}:…': this host does not know {host}: {error}") from error


def _checked(done: Done) -> Done:
    """An answer that came without shared memory.

    Raises:
        WireError: it claims something else.
    """
    if done.form == "columns":
        raise WireError("a feeder on another host cannot write to this rank's memory")
    if done.layout:
        nbytes = sum(frame.nbytes for frame in done.payload)
        if unpack_layout(done.layout).row_nbytes > nbytes:
            raise WireError(f"a layout announces larger samples than came along in {nbytes} bytes")
    return replace(done, spilled=0)
