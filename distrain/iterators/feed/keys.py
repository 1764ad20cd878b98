"""Keys and the allow-list for feeders on other hosts: a directory that only its owner can read.

    server.key                the ranks' secret           feeder.key    the feeders' secret
    server.pub                its public half
    allowed/NAME.pub          public keys of the feeders that may enter; remove one, and it stays outside
    NAME/                     what another machine needs, as `distrain feed --make-key NAME` leaves it

It is made when it is first needed. Where ranks and feeders share a home, nothing else is to be done. A key is 40
characters of Z85.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from pathlib import Path

import platformdirs

from distrain import wire
from distrain.errors import FeedError, WireError
from distrain.wire import KeyPair

_VARIABLE = "DISTRAIN_KEYS"


def key_folder(given: str | None = None) -> Path:
    """Where the keys are: as given, else as DISTRAIN_KEYS says, else in the user's configuration."""
    chosen = given or os.environ.get(_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(platformdirs.user_config_dir("distrain", appauthor=False)) / "keys"


def server_keys(folder: Path) -> KeyPair:
    """The keys of the ranks.

    Raises:
        FeedError: the folder is open to others, incomplete or damaged.
    """
    _open(folder)
    return _pair(folder / "server.key")


def feeder_keys(folder: Path) -> tuple[KeyPair, bytes]:
    """The keys of a feeder, and the public key of the ranks.

    Raises:
        FeedError: the folder is open to others, incomplete or damaged.
    """
    _open(folder)
    return _pair(folder / "feeder.key"), _read(folder / "server.pub")


class AllowList:
    """The public keys in `allowed/`, looked up anew each time: whoever is added may enter a running job.

    Args:
        folder: of the keys.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "allowed"

    def __contains__(self, raw: object) -> bool:
        for path in self._folder.glob("*.pub"):
            try:
                if wire.raw_key(path.read_bytes().strip()) == raw:
                    return True
            except (OSError, WireError):  # a file that is being written or removed
                continue
        return False


def make_key(folder: Path, name: str) -> Path:
    """Makes a key for feeders on a machine that does not share this home, and allows it.

    Returns:
        A folder to be moved to that machine, as its key folder.

    Raises:
        FeedError: the name is no name, or taken; the folder is open to others.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in ("allowed", "server.key", "server.pub"):
        raise FeedError(f"--make-key {name!r}: a name is made of letters, digits, dots, dashes and underscores")
    _open(folder)
    pair, made = wire.new_keys(), folder / name
    try:
        made.mkdir(mode=0o700)
        _write(folder / "allowed" / f"{name}.pub", pair.public)
    except FileExistsError as error:
        raise FeedError(f"there is a key {name} already: {error.filename}. Choose another name.") from error
    _write(made / "feeder.key", pair.secret)
    _write(made / "server.pub", _read(folder / "server.pub"))
    return made


def _open(folder: Path) -> None:
    """Makes the folder if it is not there, and looks who may read it."""
    try:
        if not folder.exists():
            _create(folder)
        found = folder.stat()
    except OSError as error:
        raise FeedError(f"the key folder {folder} cannot be used: {error}. Set {_VARIABLE} to another one.") from error
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.getuid() or mode & 0o077:
        raise FeedError(
            f"the key folder {folder} belongs to user {found.st_uid} and has mode {mode:04o}; keys must be for the "
            f"eyes of user {os.getuid()} alone. Say `chmod 700 {folder}`; if others may have read them, make new ones."
        )


def _create(folder: Path) -> None:
    """Makes the folder as a whole, so that others who do so at the same time find all of it or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f"{folder.name}.{secrets.token_hex(6)}")
    fresh.mkdir(mode=0o700)
    try:
        server, feeder = wire.new_keys(), wire.new_keys()
        _write(fresh / "server.key", server.secret)
        _write(fresh / "server.pub", server.public)
        _write(fresh / "feeder.key", feeder.secret)
        (fresh / "allowed").mkdir(mode=0o700)
        _write(fresh / "allowed" / "feeder.pub", feeder.public)
        fresh.rename(folder)
    except OSError:
        shutil.rmtree(fresh)
        if not folder.exists():  # else somebody was faster
            raise


def _write(path: Path, key: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key + b"\n")


def _read(path: Path) -> bytes:
    try:
        key = path.read_bytes().strip()
        wire.raw_key(key)
    except FileNotFoundError as error:
        raise FeedError(
            f"there is no {path}. Bring the folder that `distrain feed --make-key NAME` has made where the ranks run, "
            "or remove what is here, to have new keys made."
        ) from error
    except (OSError, WireError) as error:
        raise FeedError(f"{path} cannot be read: {error}") from error
    return key


def _pair(path: Path) -> KeyPair:
    try:
        return wire.keys_of(_read(path))
    except WireError as error:
        raise FeedError(f"{path} cannot be read: {error}") from error
