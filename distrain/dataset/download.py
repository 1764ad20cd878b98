"""Where files of data sets live, and how they get there: whole, checked, once for all ranks of a node.

Files live under the dataset root: what `set_dataset_root` said, else the variable DISTRAIN_DATASET_ROOT, else the
user's cache directory. With DISTRAIN_MIRROR set to a base URL nothing is asked of the public servers: known files are
fetched from `<mirror>/<dataset>/<file>` (the layout of a dataset root, so any web server over one is a mirror), other
URLs keep their path and get the mirror in place of scheme and host.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from distrain.errors import DownloadError
from distrain.files import atomic_write

_T = TypeVar("_T")


class _Root:
    path: Path | None = None


def get_dataset_root() -> str:
    """The directory under which files of data sets are kept."""
    if _Root.path is not None:
        return str(_Root.path)
    given = os.environ.get("DISTRAIN_DATASET_ROOT")
    if given:
        return str(Path(given).expanduser())
    import platformdirs

    return platformdirs.user_cache_dir("distrain", appauthor=False)


def set_dataset_root(path: str | os.PathLike[str] | None) -> None:
    """Sets the dataset root of this process; None goes back to the environment's."""
    _Root.path = None if path is None else Path(path).expanduser()


def get_dataset_directory(name: str, create_directory: bool = True) -> str:
    """The directory `<root>/<name>`.

    Raises:
        DownloadError: it does not exist and cannot be created.
    """
    path = Path(get_dataset_root(), name)
    if create_directory:
        _make_directory(path)
    return str(path)


def cached_download(url: str, *, sha256: str | None = None) -> str:
    """Fetches a file, unless that was done before.

    Args:
        url: address of the file.
        sha256: its digest in hexadecimal, checked if given.

    Returns:
        Path of the file in the dataset root.

    Raises:
        DownloadError: it cannot be fetched, is shorter than the server said, or has another digest.
    """
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    path = Path(get_dataset_root(), "_downloads", name)
    return str(fetch(url, path, None if sha256 is None else f"sha256:{sha256.lower()}"))


def cache_or_load_file(path: str | os.PathLike[str], creator: Callable[[str], _T], loader: Callable[[str], _T]) -> _T:
    """Makes a file once, loads it ever after.

    Args:
        path: of the file.
        creator: makes the content, writes it to the (temporary) path it is given, and returns it. One process of a
            node calls it; the file takes its name when it is complete.
        loader: reads the content from the path it is given.

    Returns:
        What `creator` or `loader` returned.
    """
    target = Path(path)
    if target.exists():
        return loader(str(target))
    with _only_one(target):
        if target.exists():
            return loader(str(target))
        temporary = target.with_name(f".{os.getpid()}.{target.name}")  # the ending stays: numpy.savez adds one
        try:
            content = creator(str(temporary))
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return content


def fetch(url: str, path: Path, digest: str | None = None, mirrored_as: str | None = None) -> Path:
    """Downloads to a path, unless the file is there already. Safe to call from many processes at once.

    Args:
        url: public address.
        path: of the file.
        digest: "<algorithm>:<hexadecimal>".
        mirrored_as: path of the file on a mirror; None keeps the path of `url`.

    Returns:
        The path.

    Raises:
        DownloadError: as `cached_download`. Nothing is kept of a download that failed.
    """
    if path.exists():
        return path
    from distrain.dataset import transfer  # noqa: PLC0415    http and ssl would double the time to import distrain

    source = transfer.source(url, mirrored_as)
    with _only_one(path):
        if not path.exists():
            with transfer.explained(source, path), atomic_write(path) as target:
                transfer.download(source, target, digest, path.name)
    return path


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """One process of the node at a time; the others wait for it."""
    import filelock

    _make_directory(path.parent)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"cannot create the dataset directory {path}: {error.strerror}. Set DISTRAIN_DATASET_ROOT to a place where "
            "you may write; distrain.datasets.get_digits() needs no files."
        ) from error
