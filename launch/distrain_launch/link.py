"""The line between launcher and keeper where they are on different hosts: TCP, and both prove who they are.

The keeper loads this file by its path, as it is run itself: standard library only.

    launcher → keeper     greeting, nonce                          at once, when somebody connects
    keeper → launcher     nonce, proof                             HMAC-SHA256 of both nonces with the job's secret
    launcher → keeper     proof
    either                length, HMAC, data                       records, with keys made of secret and nonces

Guarantees:

- Neither side acts on what the other says before it has shown that it knows the secret. The secret travels in the
  environment of mpiexec or srun, never on a command line, and the ranks do not see it.
- The HMAC of a record covers its place in the stream: nothing can be changed, left out, repeated or put in.
- It is not encrypted: who can read the network can read what the ranks print.
- Nothing waits for a stranger: the launcher reads what comes when it comes, and a connection that has proved nothing
  may send 64 bytes.
- A host that is cut off or without power is noticed by both sides within `SILENCE_S` seconds.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import struct
import sys
import time

VARIABLE = "DISTRAIN_LINK_SECRET"
SILENCE_S = 30
_GREETING = b"distrain link 1\n"
_NONCE, _PROOF = 32, 32  # bytes
_HEADER = struct.Struct("!I32s")
_RECORD = 2**16  # bytes of a record's data
_CONNECT_S = 5.0  # for one address of the launcher
_REACH_S = 30.0  # for all of them together


class Sealed:
    """A connected socket whose other side must know the secret. Nothing blocks.

    Args:
        connection: the socket.
        secret: of the job.
        is_launcher: whether this is the launcher's end.
    """

    def __init__(self, connection: socket.socket, secret: bytes, is_launcher: bool) -> None:
        self._socket = connection
        self._secret = secret
        self._names = (b"launcher", b"keeper") if is_launcher else (b"keeper", b"launcher")
        self._nonce = secrets.token_bytes(_NONCE)
        self._keys: tuple[bytes, bytes] | None = None  # for what is sent, for what is received
        self._sent = self._received = 0  # records
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._taken = 0  # bytes of the caller that the record in `_outgoing` holds
        _watch(connection)
        connection.setblocking(False)
        if is_launcher:
            connection.send(_GREETING + self._nonce)

    @property
    def is_known(self) -> bool:
        """Whether the other side has proved who it is."""
        return self._keys is not None

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        """Does nothing: it never blocks."""

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def hang_up(self) -> None:
        """Ends the connection; the socket stays open until `close`, and reads as closed by the other side."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def recv(self, size: int) -> bytes:
        """What has arrived; b"" when the other side has closed.

        Raises:
            BlockingIOError: nothing is complete yet.
            ConnectionError: the connection is lost, or the other side has not the secret.
        """
        try:
            self._flush()
            data = self._socket.recv(size)
        except BlockingIOError:
            raise
        except OSError as error:  # of all kinds that a network knows
            raise ConnectionError(str(error)) from error
        if not data:
            return b""
        self._incoming += data
        found = self._open()
        if not found:
            raise BlockingIOError
        return found

    def send(self, data: bytes | bytearray) -> int:
        """Sends a part of the data, and returns how long it is: 0 until all of it has been taken.

        Until then the next call must begin with the same data.

        Raises:
            ConnectionError: the connection is lost.
        """
        if not self._taken:
            part = bytes(data[:_RECORD])
            self._outgoing += self._seal(part)
            self._taken = len(part)
        self._flush()
        if self._outgoing:
            return 0
        taken, self._taken = self._taken, 0
        return taken

    def sendall(self, data: bytes) -> None:
        """Sends all of it, now or with what is sent or received next; for the few words of the launcher.

        Raises:
            ConnectionError: the connection is lost, or nobody has proved to be the keeper.
        """
        for start in range(0, len(data), _RECORD):
            self._outgoing += self._seal(data[start : start + _RECORD])
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectionError(str(error)) from error

    def _seal(self, data: bytes) -> bytes:
        if self._keys is None:
            raise ConnectionError("nobody has proved to be the other side")
        self._sent += 1
        return _HEADER.pack(len(data), _digest(self._keys[0], self._sent - 1, data)) + data

    def _open(self) -> bytes:
        """The data of the records that are complete."""
        if self._keys is None and not self._admit():
            return b""
        assert self._keys is not None
        found = bytearray()
        while len(self._incoming) >= _HEADER.size:
            length, digest = _HEADER.unpack_from(self._incoming)
            if length > _RECORD:
                raise ConnectionError(f"a record of {length} bytes")
            end = _HEADER.size + length
            if len(self._incoming) < end:
                break
            data = bytes(self._incoming[_HEADER.size : end])
            if not hmac.compare_digest(digest, _digest(self._keys[1], self._received, data)):
                raise ConnectionError("a record that the other side has not sent")
            self._received += 1
            del self._incoming[:end]
            found += data
        return bytes(found)

    def _admit(self) -> bool:
        """Reads the answer to the greeting; whether it was complete."""
        if len(self._incoming) < _NONCE + _PROOF:
            return False
        theirs = bytes(self._incoming[:_NONCE])
        proof = bytes(self._incoming[_NONCE : _NONCE + _PROOF])
        del self._incoming[: _NONCE + _PROOF]
        self._check(proof, self._nonce, theirs)
        self._outgoing += self._proof(self._names[0], self._nonce, theirs)
        self._agree(self._nonce, theirs)
        self._flush()
        return True

    def introduce(self, timeout_s: float) -> None:
        """The keeper's side of the beginning; waits.

        Raises:
            OSError: the other side is not the launcher of this job, or not in time.
        """
        self._socket.settimeout(timeout_s)
        greeting = _exactly(self._socket, len(_GREETING) + _NONCE)
        if not greeting.startswith(_GREETING):
            raise ConnectionError("what answers there is no launcher of distrain, or of another version")
        theirs = greeting[len(_GREETING) :]
        self._socket.sendall(self._nonce + self._proof(self._names[0], theirs, self._nonce))
        self._check(_exactly(self._socket, _PROOF), theirs, self._nonce)
        self._agree(theirs, self._nonce)
        self._socket.setblocking(False)

    def _proof(self, name: bytes, launcher: bytes, keeper: bytes) -> bytes:
        return hmac.digest(self._secret, b"proof of the " + name + launcher + keeper, "sha256")

    def _check(self, proof: bytes, launcher: bytes, keeper: bytes) -> None:
        if not hmac.compare_digest(proof, self._proof(self._names[1], launcher, keeper)):
            raise ConnectionError("what is at the other end does not know the secret of this job")

    def _agree(self, launcher: bytes, keeper: bytes) -> None:
        own, theirs = (
            hmac.digest(self._secret, b"records of the " + name + launcher + keeper, "sha256") for name in self._names
        )
        self._keys = own, theirs


def _digest(key: bytes, number: int, data: bytes) -> bytes:
    return hmac.digest(key, struct.pack("!QI", number, len(data)) + data, "sha256")


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the connection was closed")
        data += part
    return data


def _watch(connection: socket.socket) -> None:
    """Has the system notice that the other host no longer answers."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    options = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": SILENCE_S * 1000}
    for name, value in options.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def connect(address: str) -> Sealed:
    """The keeper's line to the launcher. The secret is taken out of the environment, so that ranks do not have it.

    Args:
        address: `tcp:PORT:ADDRESS,ADDRESS…`; one of them leads to the launcher.

    Raises:
        SystemExit: the launcher cannot be reached, or is another.
    """
    _, port, addresses = address.split(":", 2)
    secret = os.environ.pop(VARIABLE, None)
    if secret is None:
        sys.exit(
            f"distrain: the environment did not reach {socket.gethostname()}: {VARIABLE} is not set there. Let mpiexec "
            "or srun pass it on (Slurm: SLURM_EXPORT_ENV, Hydra: -genvall)."
        )
    failures: dict[str, str] = {}
    end = time.monotonic() + _REACH_S
    while True:
        for one in addresses.split(","):
            try:
                connection = socket.create_connection((one, int(port)), timeout=_CONNECT_S)
                sealed = Sealed(connection, bytes.fromhex(secret), is_launcher=False)
                sealed.introduce(_CONNECT_S)
                return sealed
            except OSError as error:
                failures[one] = str(error)
        if time.monotonic() > end:
            break
        time.sleep(0.5)  # the launcher may have had too many connections at once
    tried = "; ".join(f"{one} port {port}: {why}" for one, why in failures.items())
    sys.exit(
        f"distrain: {socket.gethostname()} cannot reach the launcher ({tried}). The hosts of a job must be able to "
        "connect to each other; a firewall may forbid it."
    )
