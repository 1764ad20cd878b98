"""The directory that a training writes to: made, tried, and kept for one job at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType

from distrain.comm import Communicator
from distrain.errors import ArgumentError

_LOCK = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # what file systems say that know none


@dataclass
class _Lock:
    fd: int  # -1 where the file system has no locks
    path: str
    claims: int = 1


_held: dict[str, _Lock] = {}
"""The locks of this process, by the real path of the directory."""


class Claim:
    """The right of this process to write to a directory; ends with `release`, with a `with` block, or with the process.

    Ranks other than 0 have one that holds nothing.
    """

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory

    def release(self) -> None:
        """Lets other jobs in, unless another claim of this process is left; the second call does nothing."""
        directory, self._directory = self._directory, None
        lock = _held.get(directory or "")
        if lock is None:
            return
        lock.claims -= 1
        if lock.claims == 0:
            del _held[directory or ""]
            _unlock(lock)

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def claim(out: str, comm: Communicator) -> Claim:
    """Makes a directory, writes to it and locks it, on rank 0; a collective call.

    The lock is one of the kernel (flock) on the file `.lock`, so it ends with the process that holds it, however that
    ends. Several claims of one process are allowed.

    Raises:
        ArgumentError: another job holds the directory, or it cannot be written to; on all ranks.
    """
    mine, problem = Claim(), None
    if comm.rank == 0:
        try:
            os.makedirs(out, exist_ok=True)
            with tempfile.TemporaryFile(dir=out):
                pass
            mine = _claim_here(os.path.realpath(out))
        except _TakenError as error:
            problem = f"is in use: {error}. Nothing has been trained; end that job, or"
        except OSError as error:
            lock = f" ({error.filename})" if str(error.filename).endswith(_LOCK) else ""
            problem = f"cannot be written to: {error.strerror or error}{lock}. Nothing has been trained;"
    try:
        if comm.size > 1:
            problem = comm.bcast_obj(problem)
    except BaseException:
        mine.release()
        raise
    if problem is not None:
        raise ArgumentError(f"the output directory {os.path.abspath(out)!r} {problem} give Trainer another out=…")
    return mine


class _TakenError(Exception):
    """Another process holds the lock; says which."""


def _claim_here(directory: str) -> Claim:
    if lock := _held.get(directory):
        lock.claims += 1
    else:
        path = os.path.join(directory, _LOCK)
        _held[directory] = _Lock(_lock(path), path)
    return Claim(directory)


def _lock(path: str) -> int:
    """Creates the file if need be and locks it; returns its descriptor.

    A file that has been unlinked is locked in vain: others make a new one. So its name is looked at again.
    """
    while True:
        fd, is_writable = _open(path)
        try:
            if not _flock(fd, path):
                os.close(fd)
                return -1
            if _is_at(fd, path):
                if is_writable:
                    _introduce(fd)
                    return fd
                os.unlink(path)  # nobody holds it: a killed job of another user has left it
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _open(path: str) -> tuple[int, bool]:
    """The lock file, and whether it can be written to; reading is enough to learn who holds it."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666), True
    except PermissionError:
        return os.open(path, os.O_RDONLY | flags), False


def _flock(fd: int, path: str) -> bool:
    """Locks; False where the file system has no locks.

    Raises:
        _TakenError: another process has it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _TakenError(_introduction(fd)) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        with suppress(OSError):
            os.unlink(path)
        warnings.warn(
            f"{os.path.dirname(path)!r} cannot be locked ({error.strerror}): nothing keeps another job from writing "
            "there at the same time; give each job a directory of its own",
            stacklevel=6,
        )
        return False
    return True


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _introduce(fd: int) -> None:
    """Writes for others who this is."""
    facts = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [sys.executable, *sys.argv],
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(facts).encode() + b"\n", 0)


def _introduction(fd: int) -> str:
    """What the process that holds the lock has written."""
    try:
        facts = json.loads(os.pread(fd, 65536, 0))
        command = " ".join(facts["command"])
        return f"process {facts['pid']} on {facts['host']} trains there since {facts['since']} ({command})"
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # it has locked the file and not written yet, or somebody else has
        return f"another process has locked {_LOCK}, and the file does not say which"


def _unlock(lock: _Lock) -> None:
    if lock.fd < 0:
        return
    with suppress(OSError):  # whoever comes next takes a file that is left
        if _is_at(lock.fd, lock.path):
            os.unlink(lock.path)
    os.close(lock.fd)


def _forget() -> None:
    """In a forked child: a lock would live as long as the last process that has its descriptor."""
    for lock in _held.values():
        if lock.fd >= 0:
            os.close(lock.fd)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
