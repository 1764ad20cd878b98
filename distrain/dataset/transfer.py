"""One file over HTTP: from the server or its mirror, complete and with the right checksum, or an error that helps."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from distrain.errors import DownloadError

_CHUNK = 1 << 16
_TIMEOUT_S = 30.0  # without a byte from the server


def source(url: str, mirrored_as: str | None) -> str:
    """The address to ask: the URL, or where DISTRAIN_MIRROR has that file."""
    mirror = os.environ.get("DISTRAIN_MIRROR")
    if not mirror:
        return url
    parts = urllib.parse.urlsplit(url)
    below = mirrored_as or parts.path + (f"?{parts.query}" if parts.query else "")
    return mirror.rstrip("/") + "/" + below.lstrip("/")


@contextmanager
def explained(url: str, path: Path) -> Iterator[None]:
    """Turns what may go wrong within a `with` block into a DownloadError that says what to do.

    Args:
        url: of the file.
        path: where it was to go.
    """
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        fact = str(error) if isinstance(error, DownloadError) else f"could not fetch {url}: {_reason(error)}"
        raise DownloadError(
            f"{fact}\nNothing was kept. Try again, put the file yourself at {path}, or set DISTRAIN_MIRROR to a server "
            "that has it; distrain.datasets.get_digits() needs no download."
        ) from error


def download(url: str, target: BinaryIO, digest: str | None, name: str) -> None:
    """Copies the file at an address.

    Args:
        url: of the file.
        target: a binary file, written to.
        digest: "<algorithm>:<hexadecimal>", or None to check the length only.
        name: beside the progress bar.

    Raises:
        DownloadError: fewer bytes arrived than were announced, or others than expected.
        OSError: the server cannot be reached or refuses.
    """
    algorithm, _, wanted = (digest or "sha256:").partition(":")
    summed = hashlib.new(algorithm, usedforsecurity=False)
    received = 0
    with _open(url) as response:
        announced = response.headers.get("Content-Length")
        expected = int(announced) if announced and announced.isdecimal() else None
        with _progress(name, expected) as advance:
            while chunk := response.read(_CHUNK):
                target.write(chunk)
                summed.update(chunk)
                received += len(chunk)
                advance(len(chunk))
    if expected is not None and received != expected:
        raise DownloadError(f"{url} was cut off: {received} of {expected} bytes arrived")
    if wanted and summed.hexdigest() != wanted:
        raise DownloadError(f"{url} is not the file it should be: {algorithm} {summed.hexdigest()}, expected {wanted}")


def _open(url: str) -> Any:
    try:
        return urllib.request.urlopen(url, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise
    except ValueError as error:  # urllib's word for an address that is none
        raise DownloadError(f"{url!r} is not a URL: {error}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error) or type(error).__name__


@contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[int], Any]]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total)
        yield lambda n: progress.advance(task, n)
