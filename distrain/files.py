"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes its name only when it is complete and on disk.

    The bytes go to a temporary file beside it, are fsynced, and renamed over `path`; the directory is fsynced too.
    If the block raises, the temporary file is removed and an older file of that name stays as it was.

    Args:
        path: of the file.
        durable: False leaves out what makes it survive a power cut: for files that are replaced again and again.

    Raises:
        OSError: the directory is not writable, the disk is full …
    """
    target = Path(path)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # an ordinary file of the user, as by open()
    try:
        with os.fdopen(fd, "wb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        fsync_directory(target.parent)


def fsync_directory(path: Path) -> None:
    """Makes a rename in that directory survive a power cut."""
    fd = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
