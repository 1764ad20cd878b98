from __future__ import annotations

import hmac
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distrain_launch.door import NetworkDoor, local_addresses
from distrain_launch.link import VARIABLE, Sealed, connect
from distrain_launch.survey import survey

LIMIT_S = 20.0


def readable(*sealed: Sealed | NetworkDoor) -> None:
    with selectors.DefaultSelector() as selector:
        for one in sealed:
            selector.register(one, selectors.EVENT_READ)
        assert selector.select(LIMIT_S), "nothing came"


def received(sealed: Sealed, size: int) -> bytes:
    """What comes, until it is so much or the other side has closed."""
    data = b""
    end = time.monotonic() + LIMIT_S
    while len(data) < size and time.monotonic() < end:
        readable(sealed)
        try:
            part = sealed.recv(2**16)
        except BlockingIOError:
            continue
        if not part:
            break
        data += part
    return data


def knocked(sealed: Sealed) -> None:
    """Reads what a keeper says to be let in."""
    readable(sealed)
    with pytest.raises(BlockingIOError):
        sealed.recv(2**16)


@pytest.fixture
def door() -> Iterator[NetworkDoor]:
    door = NetworkDoor(2, ["localhost"])
    yield door
    door.close()


@pytest.fixture
def pair(door: NetworkDoor, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Sealed, Sealed]]:
    """The ends of launcher and keeper; the latter waits, so it is let in by a thread."""
    launcher, keeper = let_in(door, monkeypatch)
    yield launcher, keeper
    launcher.close()
    keeper.close()


def let_in(door: NetworkDoor, monkeypatch: pytest.MonkeyPatch) -> tuple[Sealed, Sealed]:
    found: list[Sealed] = []

    def wait() -> None:
        readable(door)
        launcher = door.accept()
        assert isinstance(launcher, Sealed)
        found.append(launcher)
        knocked(launcher)

    thread = threading.Thread(target=wait)
    thread.start()
    monkeypatch.setenv(VARIABLE, door.variables[VARIABLE])
    keeper = connect(door.address)
    thread.join(LIMIT_S)
    return found[0], keeper


def test_both_ways(pair: tuple[Sealed, Sealed]) -> None:
    launcher, keeper = pair
    assert VARIABLE not in os.environ
    assert keeper.send(b"hello") == 5
    assert received(launcher, 5) == b"hello"
    launcher.sendall(b"start" * 50_000)
    assert received(keeper, 250_000) == b"start" * 50_000
    keeper.close()
    assert received(launcher, 1) == b""


def test_a_side_that_does_not_read_holds_up_nobody(pair: tuple[Sealed, Sealed]) -> None:
    launcher, keeper = pair
    data = bytearray(os.urandom(2**16) * 200)
    whole, taken = bytes(data), 1
    while taken:
        taken = keeper.send(data)  # as a keeper does: what was taken goes, the rest comes again
        del data[:taken]
    assert data, "the system has taken it all"
    got = b""
    while len(got) < len(whole):
        got += received(launcher, 1)
        del data[: keeper.send(data) if data else 0]
    assert got == whole


@pytest.mark.parametrize("place", [0, 3, 10, 40])
def test_a_changed_byte_ends_the_connection(pair: tuple[Sealed, Sealed], place: int) -> None:
    launcher, keeper = pair
    keeper._outgoing += keeper._seal(b"something")
    keeper._outgoing[place] ^= 1
    keeper._flush()
    with pytest.raises(ConnectionError, match="has not sent|a record of 16777225 bytes"):
        received(launcher, 9)


def test_records_cannot_be_repeated(pair: tuple[Sealed, Sealed]) -> None:
    launcher, keeper = pair
    record = keeper._seal(b"once")
    keeper._outgoing += record + record
    keeper._flush()
    with pytest.raises(ConnectionError, match="has not sent"):
        received(launcher, 8)


def test_who_does_not_know_the_secret_is_sent_away(door: NetworkDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    _, port, address = door.address.split(":")
    with socket.create_connection((address, int(port)), timeout=LIMIT_S) as stranger:
        readable(door)
        sealed = door.accept()
        assert isinstance(sealed, Sealed)
        greeting = stranger.recv(100)
        nonce = os.urandom(32)
        guess = hmac.digest(b"guess", b"proof of the keeper" + greeting[-32:] + nonce, "sha256")
        with pytest.raises(ConnectionError, match="nobody has proved"):
            sealed.sendall(b"secret plans")
        stranger.sendall(nonce + guess)
        readable(sealed)
        with pytest.raises(ConnectionError, match="does not know the secret"):
            sealed.recv(2**16)
        sealed.close()


def test_strangers_who_say_nothing_do_not_pile_up(door: NetworkDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distrain_launch.door._STRANGERS", 3)
    _, port, address = door.address.split(":")
    strangers, sealed = [], []
    for _ in range(5):
        strangers.append(socket.create_connection((address, int(port)), timeout=LIMIT_S))
        readable(door)
        sealed.append(door.accept())
    for one in sealed[:2]:
        assert one.recv(1) == b""
    for one in sealed[2:]:
        with pytest.raises(BlockingIOError):
            one.recv(1)
    launcher, keeper = let_in(door, monkeypatch)
    assert keeper.send(b"!") == 1
    assert received(launcher, 1) == b"!"
    for one in (*sealed, *strangers, launcher, keeper):
        one.close()


def test_a_launcher_of_another_job(door: NetworkDoor) -> None:
    """The keeper leaves, and says why."""
    environ = {**os.environ, VARIABLE: "00" * 32}
    code = "import sys; from distrain_launch import link; link._REACH_S = 0; link.connect(sys.argv[1])"
    keeper = subprocess.Popen(
        [sys.executable, "-c", code, door.address], env=environ, stderr=subprocess.PIPE, text=True
    )
    readable(door)
    sealed = door.accept()
    assert isinstance(sealed, Sealed)
    readable(sealed)
    with pytest.raises(ConnectionError):
        sealed.recv(2**16)
    sealed.close()
    _, words = keeper.communicate(timeout=LIMIT_S)
    assert keeper.returncode == 1
    assert f"distrain: {socket.gethostname()} cannot reach the launcher (127.0.0.1 port" in words
    assert "the connection was closed" in words


def test_an_environment_that_did_not_come_along(door: NetworkDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(SystemExit, match="the environment did not reach"):
        connect(door.address)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["a", "b", "a"], ["10.0.0.1"]),
        (["b"], ["127.0.0.1", "::1"]),
        (["a", "unknown"], ["10.0.0.1", "10.9.9.9"]),
        (["unknown"], ["10.9.9.9"]),
    ],
)
def test_addresses(hosts: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {"a": ["10.0.0.1"], "b": ["::1"], "here": ["127.0.0.1"], "192.0.2.1": ["10.9.9.9"]}
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    monkeypatch.setattr("distrain_launch.door._towards", lambda host: ways.get(host, []))
    assert sorted(local_addresses(hosts)) == expected


def test_the_address_on_the_way_to_this_machine() -> None:
    assert local_addresses(["127.0.0.1"])[0]
    door = NetworkDoor(1, ["127.0.0.1"])
    kind, port, _ = door.address.split(":", 2)
    assert (kind, int(port) > 0) == ("tcp", True)
    door.close()


def test_survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    script = tmp_path / "script.py"
    script.touch()
    found = survey(["python", "script.py", "x"])
    assert (found["visible"], found["missing"]) == ("3,1", None)
    assert found["folder"] == [str(tmp_path), tmp_path.stat().st_ino]
    assert 1 <= found["cores"] <= found["processors"] == len(os.sched_getaffinity(0))
    assert survey(["python", "-m", "module"])["missing"] is None
    assert survey(["python", "other.py"])["missing"] == "other.py"
