"""Lists of hosts, as `--hosts a:4,b:4` and `--hostfile` give them."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distrain.errors import ArgumentError, LaunchError

_HOST = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?::(?P<slots>[0-9]{1,6}))?", re.ASCII)
_LINE = re.compile(r"(?P<name>[^\s:=]+)(?:\s+slots\s*=\s*|\s*:\s*|\s+)(?P<slots>[0-9]{1,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs ranks.

    Attributes:
        name: by which the others reach it.
        slots: how many ranks it has room for.
    """

    name: str
    slots: int


def listed(text: str) -> list[Host]:
    """The hosts of a list such as `a:4,b:4`, in its order.

    Raises:
        ArgumentError: it cannot be read, a host has no slots, or a host stands there twice.
    """
    hosts = []
    for part in text.split(","):
        found = _HOST.fullmatch(part.strip())
        if found is None:
            raise ArgumentError(f"--hosts {text}: {part.strip()!r} is no host; expected a list such as a:4,b:4.")
        hosts.append(_host(found["name"], found["slots"], f"--hosts {text}"))
    return _each_once(hosts, f"--hosts {text}")


def from_file(path: str) -> list[Host]:
    """The hosts of a file with a line for each, `a:4` or `a slots=4`; what follows a # is a comment.

    Raises:
        ArgumentError: a line cannot be read, a host has no slots, or a host stands there twice.
        LaunchError: the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(
            f"--hostfile {path}: {error}. Name a text file with a line such as a:4 for each host."
        ) from error
    hosts = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        where = f"--hostfile {path}, line {number}"
        found = _LINE.fullmatch(text) or _HOST.fullmatch(text)
        if found is None or not _HOST.fullmatch(found["name"]):
            raise ArgumentError(f"{where}: {text!r} is no host; expected a:4 or a slots=4.")
        hosts.append(_host(found["name"], found["slots"], where))
    if not hosts:
        raise ArgumentError(f"--hostfile {path}: there is no host in it; expected a line such as a:4 for each.")
    return _each_once(hosts, f"--hostfile {path}")


def _host(name: str, slots: str | None, where: str) -> Host:
    if slots is None:
        raise ArgumentError(f"{where}: host {name} has no number of slots. Say how many ranks it takes, as {name}:4.")
    if int(slots) == 0:
        raise ArgumentError(f"{where}: host {name} has 0 slots. Leave it out, or say how many ranks it takes.")
    return Host(name, int(slots))


def _each_once(hosts: list[Host], where: str) -> list[Host]:
    names = [host.name for host in hosts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        total = sum(host.slots for host in hosts if host.name == twice)
        raise ArgumentError(f"{where}: host {twice} stands there twice. Name it once, as {twice}:{total}.")
    return hosts


def check_names(hosts: Sequence[Host]) -> None:
    """Whether this machine knows the names.

    Raises:
        LaunchError: it does not know one.
    """
    for host in hosts:
        try:
            socket.getaddrinfo(host.name, None)
        except (OSError, UnicodeError) as error:
            raise LaunchError(
                f"host {host.name} is not known on {socket.gethostname()}: {error}. Correct the name, or take the "
                "host's address."
            ) from error


def ranks_of(hosts: Sequence[Host], wanted: int | None, oversubscribe: bool) -> int:
    """How many ranks the hosts get: all that they have room for, or those that are wanted.

    Raises:
        ArgumentError: more are wanted than there is room for.
    """
    room = sum(host.slots for host in hosts)
    if wanted is not None and wanted > room and not oversubscribe:
        there = ", ".join(f"{host.name}:{host.slots}" for host in hosts)
        raise ArgumentError(
            f"-n {wanted}: the hosts have room for {room} ranks ({there}). Take -n {room}, name more slots, or give "
            "--oversubscribe."
        )
    return wanted or room


def ranks_without(everybody: Sequence[Host], there: Sequence[Host], wanted: int, least: int) -> int:
    """How many ranks those hosts get that answer: as many as are wanted, or as many as they have room for.

    Args:
        everybody: all hosts of the job.
        there: those that answer.
        wanted: ranks with all of them.
        least: ranks that are enough.

    Raises:
        LaunchError: they have room for fewer.
    """
    if len(there) == len(everybody):
        return wanted
    ranks = min(wanted, sum(host.slots for host in there))
    if ranks and ranks >= least:
        return ranks
    silent = ", ".join(host.name for host in everybody if host not in there)
    rest = ", ".join(f"{host.name}:{host.slots}" for host in there) or "none are left"
    asked = f"--min-n {least} asks for more" if least < wanted else f"the job has {wanted}"
    raise LaunchError(
        f"{silent}: no answer. The other hosts ({rest}) have room for {ranks} rank{'s' * (ranks != 1)}, but {asked}. "
        "Bring the hosts back, name others beside them, or let the job go on with fewer ranks (--min-n)."
    )


def in_use(hosts: Sequence[Host], ranks: int) -> list[Host]:
    """The hosts that get ranks; the first ones are filled first."""
    used, left = [], ranks
    for host in hosts:
        if left > 0:
            used.append(host)
            left -= host.slots
    return used
