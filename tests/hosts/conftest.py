"""Three hosts on one machine: network namespaces with names of their own, and a remote shell between them.

    a 10.77.0.1 ──┐
    b 10.77.0.2 ──┼── a bridge in a fourth namespace
    c 10.77.0.3 ──┘     on c the folder `private` is empty

Nothing of it is seen by the rest of the machine, and it goes with the last test.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("a", "b", "c")
_ADDRESS = "10.77.0."
_TIMEOUT_S = 30

_REACH = """
import socket, sys, time
end = time.monotonic() + 20
while time.monotonic() < end:
    try:
        socket.create_connection((sys.argv[1], 9), timeout=1)
    except ConnectionRefusedError:  # somebody is there
        break
    except OSError:
        time.sleep(0.05)
"""

_SHELL = """#!/bin/sh
# As ssh: [options] HOST COMMAND…; the host is a network namespace.
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1; shift
[ ! -e {folder}/cut-$host ] || {{ echo "connect to host $host: No route to host" >&2; exit 255; }}
exec ip netns exec {prefix}-$host unshare --uts --mount sh -c '
    hostname "$0" && mount --bind {folder}/hosts /etc/hosts || exit 255
    [ "$0" != c ] || mount -t tmpfs none {folder}/private || exit 255
    eval "$1"
' "$host" "$*"
"""


@dataclass(frozen=True)
class Hosts:
    """The hosts.

    Attributes:
        folder: of all hosts; its folder `private` is not seen by c.
        shell: path of the remote shell.
        prefix: of the names of the namespaces.
    """

    folder: Path
    shell: str
    prefix: str

    def on(self, host: str, *command: str) -> list[str]:
        """The command line that runs a command on a host."""
        return [self.shell, host, shlex.join(command)]

    def variables(self) -> dict[str, str]:
        """By which each mpiexec finds the remote shell."""
        return {
            "HYDRA_LAUNCHER": "rsh",
            "HYDRA_LAUNCHER_EXEC": self.shell,
            "PRTE_MCA_plm_ssh_agent": self.shell,
            "PRTE_MCA_plm": "ssh",
            "OMPI_MCA_plm_rsh_agent": self.shell,
            "CUDA_VISIBLE_DEVICES": "",
        }

    def cut(self, host: str) -> None:
        """Takes the cable of a host out."""
        _ip("netns", "exec", f"{self.prefix}-net", "ip", "link", "set", f"to-{host}", "down")
        (self.folder / f"cut-{host}").touch()

    def mend(self, host: str) -> None:
        """Puts it in again."""
        _ip("netns", "exec", f"{self.prefix}-net", "ip", "link", "set", f"to-{host}", "up")
        other = next(name for name in NAMES if name != host)
        address = f"{_ADDRESS}{NAMES.index(host) + 1}"
        _ip("netns", "exec", f"{self.prefix}-{other}", sys.executable, "-c", _REACH, address)
        (self.folder / f"cut-{host}").unlink(missing_ok=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)


def _missing() -> str:
    """Why there can be no such hosts here; empty if there can."""
    absent = [name for name in ("ip", "unshare", "mount") if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)} (Debian: apt-get install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    done = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, timeout=_TIMEOUT_S)
    return "" if done.returncode == 0 else "this root may make no network namespaces"


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """The hosts; skips where there can be none."""
    if reason := _missing():
        pytest.skip(reason)
    folder, prefix = Path(tempfile.mkdtemp(prefix="distrain-hosts-", dir="/tmp")), f"dt{os.getpid()}"
    (folder / "private").mkdir()
    names = [*NAMES, "net"]
    try:
        _build(folder, prefix)
        shell = folder / "shell"
        shell.write_text(_SHELL.format(prefix=prefix, folder=folder))
        shell.chmod(0o755)
        yield Hosts(folder, str(shell), prefix)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", f"{prefix}-{name}"], capture_output=True, timeout=_TIMEOUT_S)
        shutil.rmtree(folder, ignore_errors=True)


def _build(folder: Path, prefix: str) -> None:
    lines = ["127.0.0.1 localhost", *(f"{_ADDRESS}{number} {name}" for number, name in enumerate(NAMES, 1))]
    (folder / "hosts").write_text("\n".join(lines) + "\n")

    def inside(name: str, words: Sequence[str]) -> None:
        _ip("netns", "exec", f"{prefix}-{name}", "ip", *words)

    _ip("netns", "add", f"{prefix}-net")
    inside("net", ["link", "add", "bridge", "type", "bridge"])
    inside("net", ["link", "set", "bridge", "up"])
    for number, name in enumerate(NAMES, 1):
        _ip("netns", "add", f"{prefix}-{name}")
        inside(
            "net", ["link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", f"{prefix}-{name}"]
        )
        inside("net", ["link", "set", f"to-{name}", "master", "bridge", "up"])
        inside(name, ["addr", "add", f"{_ADDRESS}{number}/24", "dev", "eth0"])
        for link in ("lo", "eth0"):
            inside(name, ["link", "set", link, "up"])
