"""Where the launcher waits for its keepers: a local socket, or TCP where ranks run on several hosts."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from distrain.errors import LaunchError
from distrain_launch.link import SILENCE_S, VARIABLE, Sealed

_LONGEST_SOCKET = 100  # bytes of its path
_ELSEWHERE = "192.0.2.1"  # nobody's: kept free for examples
_STRANGERS = 256  # connections that have proved nothing; more of them cost the oldest one


class Connection(Protocol):
    """What the launcher does with the line to a keeper."""

    def fileno(self) -> int:
        """For selectors."""

    def recv(self, size: int, /) -> bytes:
        """What has arrived."""

    def sendall(self, data: bytes, /) -> None:
        """Sends all of it."""

    def close(self) -> None:
        """Ends it."""


class Door(Protocol):
    """A place to wait for keepers.

    Attributes:
        address: what a keeper finds on its command line.
        variables: what it must find in its environment besides.
        loss: what has happened if a keeper ends without a word.
    """

    address: str
    variables: Mapping[str, str]
    loss: str

    def fileno(self) -> int:
        """For selectors: readable when somebody knocks."""

    def accept(self) -> Connection:
        """The line to who has knocked."""

    def forget(self) -> None:
        """All keepers are there: removes what they needed to find it."""

    def close(self) -> None:
        """Nobody is waited for any more."""


class LocalDoor:
    """For the keepers of this machine: a socket in a folder that only this user can enter.

    Args:
        ranks: how many keepers will come.
    """

    variables: Mapping[str, str] = {}
    loss = "was killed"

    def __init__(self, ranks: int) -> None:
        self._folder = _socket_folder()
        self.address = str(self._folder / "launcher")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen(ranks)

    def fileno(self) -> int:
        """For selectors: readable when somebody knocks."""
        return self._listener.fileno()

    def accept(self) -> Connection:
        """The line to who has knocked."""
        return self._listener.accept()[0]

    def forget(self) -> None:
        """Removes the folder; a keeper may be first, when the launcher ends early."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Nobody is waited for any more."""
        self._listener.close()
        self.forget()


class NetworkDoor:
    """For keepers on any host that know the job's secret; see `distrain_launch.link`.

    Args:
        ranks: how many keepers will come.
        hosts: names of the hosts they are on.
    """

    loss = f"was killed, or its host has not answered for {SILENCE_S} s"

    def __init__(self, ranks: int, hosts: Sequence[str]) -> None:
        self._secret = secrets.token_bytes(32)
        self.variables: Mapping[str, str] = {VARIABLE: self._secret.hex()}
        self._strangers: list[Sealed] = []
        found = local_addresses(hosts)
        try:
            self._listener = _listen(found, ranks)
        except OSError as error:
            raise LaunchError(f"no port could be opened for the ranks of other hosts: {error}.") from error
        self.address = f"tcp:{self._listener.getsockname()[1]}:{','.join(found)}"

    def fileno(self) -> int:
        """For selectors: readable when somebody knocks."""
        return self._listener.fileno()

    def accept(self) -> Connection:
        """The line to who has knocked; it must prove that it knows the secret before anything else is read.

        Raises:
            OSError: it is gone already.
        """
        sealed = Sealed(self._listener.accept()[0], self._secret, is_launcher=True)
        self._strangers = [one for one in self._strangers if one.fileno() >= 0 and not one.is_known]
        if len(self._strangers) >= _STRANGERS:
            self._strangers.pop(0).hang_up()
        self._strangers.append(sealed)
        return sealed

    def forget(self) -> None:
        """Does nothing: there are no files."""

    def close(self) -> None:
        """Nobody is waited for any more."""
        self._listener.close()


def _listen(addresses: Sequence[str], ranks: int) -> socket.socket:
    if len(addresses) == 1 and ":" not in addresses[0]:
        return socket.create_server((addresses[0], 0), backlog=ranks)
    if any(":" in one for one in addresses) and socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=ranks)
    return socket.create_server(("", 0), backlog=ranks)


def local_addresses(hosts: Iterable[str]) -> list[str]:
    """The addresses by which these hosts reach this one, as the routes to them say; nothing is sent.

    If a name is not known here, as those of a batch system may be, the address on the way to everywhere is tried too.
    One that only this machine reaches is left out if there are others.
    """
    found: dict[str, None] = {}
    ways = [_towards(host) for host in (*hosts, socket.gethostname())]
    for way in [*ways, *([] if all(ways) else [_towards(_ELSEWHERE)])]:
        found.update(dict.fromkeys(way))
    others = [one for one in found if not one.startswith("127.") and one != "::1"]
    return others or list(found) or ["127.0.0.1"]


def _towards(host: str) -> list[str]:
    """This machine's address on the way to a host; none if there is no way."""
    try:
        targets = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except OSError:
        return []
    for family, kind, protocol, _, target in targets:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(target)
                own = str(probe.getsockname()[0])
        except OSError:
            continue
        if "%" not in own:  # an address that means nothing without the name of an interface
            return [own]
    return []


def _socket_folder() -> Path:
    """A folder that only this user can enter."""
    try:
        folder = tempfile.mkdtemp(prefix="distrain-")
        if len(os.fsencode(folder)) < _LONGEST_SOCKET - len("/launcher"):
            return Path(folder)
        os.rmdir(folder)  # the system has room for about a hundred bytes
        return Path(tempfile.mkdtemp(prefix="distrain-", dir="/tmp"))
    except OSError as error:
        raise LaunchError(
            f"no folder for temporary files: {error}. Set TMPDIR to one that can be written to."
        ) from error
