"""The entries of a log: in memory the last ones, on disk all of them.

Two files hold the same entries. `log.jsonl` has one JSON object a line and is only ever appended to; a line that was
cut off by a crash is the last one. `log` is one JSON array, for tools that read a file as a whole: an entry is written
over the bracket at its end, together with a new one, in a single write. When a training starts or goes on, both are
written anew from what the snapshot knows, so whatever a crash has left there is mended.
"""

from __future__ import annotations

import errno
import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, overload

from distrain.errors import ArgumentError
from distrain.files import atomic_write

Entry = dict[str, Any]

_RECENT = 10_000  # entries that stay in memory once all are on disk; some megabytes
_END = b"\n]"


class Log(Sequence[Entry]):
    """A list of entries that may be longer than what fits into memory.

    At first all entries are in memory. After `attach` the last ten thousand are, and older ones are read from the file
    when somebody asks for them; after `keep_recent` older ones are gone.

    Args:
        entries: the first ones.
    """

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._recent: list[Entry] = list(entries)
        self._n_old = 0  # on disk only
        self._path: str | None = None
        self._forgets = False
        self._sizes = (0, 0)  # of the two files as they were left

    @property
    def path(self) -> str | None:
        """The file with the array; None while all is in memory."""
        return self._path

    def attach(self, path: str) -> None:
        """Writes all entries to new files, which replace older ones of that name, and appends to them from now on.

        Args:
            path: of the array; the file with the lines has ".jsonl" appended.
        """
        with atomic_write(path + ".jsonl") as lines, atomic_write(path) as array:
            separator = b"["
            for entry in self:
                lines.write(_line(entry))
                array.write(separator + _indented(entry))
                separator = b","
            array.write(b"[\n]" if separator == b"[" else _END)
        self._path = path
        self._sizes = (os.path.getsize(path + ".jsonl"), os.path.getsize(path))
        self.keep_recent()

    def keep_recent(self) -> None:
        """Keeps no more than the last entries in memory from now on."""
        self._forgets = True
        self._forget()

    def append(self, entry: Entry) -> None:
        """Adds an entry, to the files too.

        Raises:
            OSError: a file cannot be written.
        """
        self._recent.append(entry)
        if self._path is not None:
            self._write(self._path, entry)
        if self._forgets and len(self._recent) >= 2 * _RECENT:
            self._forget()

    def _write(self, path: str, entry: Entry) -> None:
        if (_size(path + ".jsonl"), _size(path)) != self._sizes:  # somebody else has been there
            self.attach(path)
            return
        line, text = _line(entry), _indented(entry) + _END
        _write_at(path + ".jsonl", line, self._sizes[0])
        start = self._sizes[1] - len(_END)
        text = b"," + text if len(self) > 1 else text
        _write_at(path, text, start)
        self._sizes = (self._sizes[0] + len(line), start + len(text))

    def _forget(self) -> None:
        surplus = len(self._recent) - _RECENT
        if surplus > 0:
            del self._recent[:surplus]
            self._n_old += surplus

    def __len__(self) -> int:
        return self._n_old + len(self._recent)

    def __iter__(self) -> Iterator[Entry]:
        yield from self._old(0, self._n_old)
        yield from self._recent

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            numbers = range(len(self))[index]
            if not numbers or min(numbers) >= self._n_old:
                return [self._recent[i - self._n_old] for i in numbers]
            first = min(numbers)
            entries = [*self._old(first, self._n_old), *self._recent]
            return [entries[i - first] for i in numbers]
        i = range(len(self))[index]
        return self._recent[i - self._n_old] if i >= self._n_old else next(self._old(i, i + 1))

    def _old(self, start: int, stop: int) -> Iterator[Entry]:
        if start < stop and self._path is None:
            raise ArgumentError(
                f"the entries 0 … {self._n_old - 1} of this log are no longer in memory; rank 0 has them in its file"
            )
        if start < stop:
            with open(f"{self._path}.jsonl", encoding="utf-8") as stream:
                for line in islice(stream, start, stop):
                    yield json.loads(line)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Log({list(self)!r})" if len(self) <= 10 else f"<Log of {len(self)} entries>"

    def to_json(self) -> str:
        """All entries as one JSON array."""
        return "[" + ", ".join(map(json.dumps, self)) + "]"


def _line(entry: Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _indented(entry: Entry) -> bytes:
    """The text of `json.dumps(entry, indent=4)`, indented once more; faster for the numbers that entries mostly are."""
    parts = []
    for key, value in entry.items():
        if type(value) in (float, int, str):
            text = json.dumps(value)
        else:
            text = textwrap.indent(json.dumps(value, indent=4), "        ").lstrip()
        parts.append(f"        {json.dumps(key)}: {text}")
    return ("\n    {\n" + ",\n".join(parts) + "\n    }").encode() if parts else b"\n    {}"


def _write_at(path: str, data: bytes, offset: int) -> None:
    """Writes into a file that is there, all at once."""
    fd = os.open(path, os.O_WRONLY)
    try:
        if os.pwrite(fd, data, offset) != len(data):
            raise OSError(errno.ENOSPC, f"only a part of {len(data)} bytes could be written", path)
    finally:
        os.close(fd)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return -1
