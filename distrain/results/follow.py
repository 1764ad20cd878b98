"""Trainings that go on: result folders that are looked at again and again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distrain.errors import ArgumentError, DistrainError
from distrain.results.entries import Entries, check_format, damaged, decoded, read_entries
from distrain.results.ranks import read_ranks
from distrain.results.run import Run, find_log, with_entries

_FILES = ("log.jsonl", "log", "run.json", "cg.dot", "ranks.json")  # that are read
_HEAD = 256  # bytes by which a file is known again


class Tail:
    """The entries of a log of JSON lines that grows: each look reads only what has been added.

    A line without its end is left for the next look. A file that was replaced or has become shorter is read anew.

    Args:
        path: of the file.
        limit: as for `Entries`.

    Attributes:
        entries: those so far.
    """

    def __init__(self, path: Path, limit: int = 4000) -> None:
        self._path = path
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self.entries = Entries(self._limit)
        self._inode = -1
        self._offset = 0
        self._head = b""
        self._lines = 0
        self._bad: list[int] = []
        self._n_bad = 0

    def look(self) -> Entries:
        """Reads on to the last whole line.

        Raises:
            OSError: the file cannot be opened or read.
            SerializationError: a newer version has written it.
        """
        with open(self._path, "rb") as stream:
            status = os.fstat(stream.fileno())
            head = stream.read(_HEAD)
            if status.st_ino != self._inode or status.st_size < self._offset or not head.startswith(self._head):
                self._begin()
                self._inode = status.st_ino
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._take(line)
                self._offset += len(line)
            self._head = head[: self._offset]
        entries = self.entries
        entries.problems = [damaged(self._path, self._bad, self._n_bad)] if self._n_bad else []
        if not entries.total and not self._n_bad:
            entries.problems.append(f"{self._path.name} has no entry yet.")
        return entries

    def _take(self, line: bytes) -> None:
        self._lines += 1
        if not line.strip():
            return
        entry = decoded(line)
        if isinstance(entry, dict):
            if self._lines == 1 and "iteration" not in entry:
                check_format(self._path, entry)
            self.entries.add(entry)
        else:
            self._n_bad += 1
            self._bad += [self._lines] if len(self._bad) < 5 else []


class Followed:
    """A result folder that is looked at again and again.

    Nothing is an error: a folder without a log yet, and one that is gone, is a run whose `problems` say so. Of the
    folder only those files are read that a run consists of, and none that is a link to a place outside.

    Args:
        place: the folder, or the log in it if that has another name than `log`.
        name: for a legend.
        limit: as for `Entries`.

    Attributes:
        run: what the last look has seen.
        version: another number whenever there is more to see than in `run.ranks`.
        ranks: what `ranks.json` said at the last look, or None.
    """

    def __init__(self, place: str | os.PathLike[str], name: str, limit: int = 4000) -> None:
        self._place = Path(place)
        self._folder = self._place.parent if self._place.is_file() else self._place
        self._name = name
        self._limit = limit
        self._tail: Tail | None = None
        self._seen: Any = None
        self._seen_ranks: Any = None
        self.version = 0
        self.ranks: dict[str, Any] | None = None
        self.run = self._nothing("It has not been looked at yet.")

    def look(self) -> None:
        """Reads what has changed."""
        seen = self._signature()
        if seen != self._seen:
            self._seen = seen
            self.version += 1
            self.run = self._read()
        seen_ranks = _status(self._folder / "ranks.json")
        if seen_ranks != self._seen_ranks:
            self._seen_ranks = seen_ranks
            self.ranks = read_ranks(self._folder / "ranks.json", []) if self._is_inside("ranks.json") else None

    def _signature(self) -> Any:
        """What changes when the folder does, apart from `ranks.json`, which changes all the time."""
        names = {*_FILES, self._place.name} - {"ranks.json"}
        try:
            with os.scandir(self._folder) as found:
                files = [one.name for one in found if one.name.startswith("snapshot") or one.name.endswith(".npz")]
        except OSError as error:
            return str(error)
        return sorted((name, _status(self._folder / name)) for name in (*names, *files))

    def _read(self) -> Run:
        try:
            for name in _FILES:
                if not self._is_inside(name):
                    return self._nothing(f"It is not shown: {name} is a link to a place outside of the folder.")
            log = find_log(self._place)
            return with_entries(log, self._entries(log), self._name)
        except ArgumentError:
            if not self._place.exists():
                return self._nothing(f"{self._place} is not there (any more).")
            return self._nothing("There is no log yet; the extension LogReport writes it.")
        except OSError as error:
            return self._nothing(f"{error.filename or self._folder} cannot be read: {error.strerror or error}.")
        except DistrainError as error:
            return self._nothing(str(error))

    def _entries(self, log: Path) -> Entries:
        if log.suffix != ".jsonl":
            self._tail = None
            return read_entries(log, self._limit)
        if self._tail is None:
            self._tail = Tail(log, self._limit)
        return self._tail.look()

    def _is_inside(self, name: str) -> bool:
        path = self._folder / name
        return not path.is_symlink() or path.resolve().is_relative_to(self._folder.resolve())

    def _nothing(self, problem: str) -> Run:
        self._tail = None
        return Run(self._name, self._folder, "log.jsonl", Entries(), [], [], None, [problem])


def _status(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def follow(places: Sequence[str | os.PathLike[str]]) -> list[Followed]:
    """Result folders to look at, with names that tell them apart.

    Raises:
        ArgumentError: one is not there, or is given twice.
    """
    paths = [Path(place) for place in places]
    for path in paths:
        if not path.exists():
            raise ArgumentError(f"there is no folder {path} (looked in {Path.cwd()}).")
    real = [os.path.realpath(path) for path in paths]
    for path, one in zip(paths, real, strict=True):
        if real.count(one) > 1:
            raise ArgumentError(f"{path} is given {real.count(one)} times; once is enough.")
    names = [os.path.basename(os.path.dirname(one) if os.path.isfile(one) else one) or one for one in real]
    return [
        Followed(path, name if names.count(name) == 1 else str(path)) for path, name in zip(paths, names, strict=True)
    ]
