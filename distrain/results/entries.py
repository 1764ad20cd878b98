"""The numbers in a log, whatever state a crash has left it in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distrain.errors import CorruptFileError, SerializationError

FORMAT = 1  # of logs and of run.json; files that say nothing have this one
_SPACE = " \t\r\n"


@dataclass
class Entries:
    """The numbers of a log, by column.

    Args:
        limit: so many entries are kept at least, if there are so many, and no more than twice as many.

    Attributes:
        columns: one list a key, all of one length; None where an entry lacks the key or has no number there.
        total: entries in the file.
        stride: every so manieth entry is kept, and the last one.
        problems: what was wrong with the file, in sentences.
    """

    limit: int = 4000
    columns: dict[str, list[float | None]] = field(default_factory=dict)
    total: int = 0
    stride: int = 1
    problems: list[str] = field(default_factory=list)
    _kept: int = 0
    _last_counts: bool = True  # the last row is there by its number, not only because it is the last

    def add(self, entry: dict[str, Any]) -> None:
        """Takes the next entry of the file."""
        if not self._last_counts:
            for column in self.columns.values():
                column.pop()
            self._kept -= 1
        self._last_counts = self.total % self.stride == 0
        self.total += 1
        for key, value in entry.items():
            number = _number(value)
            if number is not None and key not in self.columns:
                self.columns[key] = [None] * self._kept
            if key in self.columns:
                self.columns[key].append(number)
        self._kept += 1
        for column in self.columns.values():
            if len(column) < self._kept:
                column.append(None)
        if self._kept >= 2 * self.limit and self._last_counts:
            self._thin()

    @property
    def settled(self) -> int:
        """So many rows stay as they are until `stride` changes."""
        return self._kept - (not self._last_counts)

    def _thin(self) -> None:
        self.stride *= 2
        self._last_counts = (self.total - 1) % self.stride == 0
        for key, column in self.columns.items():
            self.columns[key] = column[::2] if self._last_counts else [*column[::2], column[-1]]
        self._kept = (self._kept + 1) // 2 + (not self._last_counts)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return value


def read_entries(path: Path, limit: int = 4000) -> Entries:
    """Reads a log: JSON lines if the name ends with ".jsonl", one JSON array if not.

    What is cut off or damaged is left out, and `problems` says so. Of a long log every second entry is kept, or every
    fourth …, so the memory is bounded for JSON lines.

    Args:
        path: of the file.
        limit: as for `Entries`.

    Raises:
        OSError: the file cannot be opened or read.
        CorruptFileError: that is no log.
        SerializationError: a newer version has written it.
    """
    entries = Entries(limit)
    found = _lines(path, entries) if path.suffix == ".jsonl" else _array(path, entries)
    for entry in found:
        entries.add(entry)
    if not entries.total and not entries.problems:
        entries.problems.append(f"{path.name} has no entry yet.")
    return entries


def _lines(path: Path, entries: Entries) -> Iterator[dict[str, Any]]:
    bad: list[int] = []
    number = 0
    with open(path, encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):  # noqa: B007    the number of lines is used below
            if not line.strip():
                continue
            entry = decoded(line)
            if not isinstance(entry, dict):
                bad.append(number)
                continue
            if number == 1 and "iteration" not in entry:
                check_format(path, entry)
            yield entry
    if bad and not entries.total and bad != [number]:
        raise CorruptFileError(f"{path} is no log: line {bad[0]} is no JSON object, and no other line is one.")
    if bad and bad[-1] == number:
        entries.problems.append(f"{path.name} ends within an entry, in line {bad.pop()}; that entry is left out.")
    if bad:
        entries.problems.append(damaged(path, bad, len(bad)))


def damaged(path: Path, lines: list[int], n: int) -> str:
    """The sentence about `n` lines that are no entries, given the numbers of the first ones."""
    where = ", ".join(map(str, lines[:5])) + (" …" if n > 5 else "")
    return f"{path.name}: {n} damaged lines are left out: {where}."


def decoded(line: str | bytes) -> Any:
    """The value that a line of JSON has; None if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _array(path: Path, entries: Entries) -> Iterator[dict[str, Any]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    start = _skip(text, 0)
    if start == len(text):
        return
    decode = json.JSONDecoder().raw_decode
    if text[start] != "[":
        whole = decoded(text)
        if isinstance(whole, dict):
            check_format(path, whole)
        raise CorruptFileError(
            f"{path} is no log: it does not begin with a JSON array, but with {text[start:][:20]!r}."
        )
    position = _skip(text, start + 1)
    while text[position : position + 1] != "]":
        try:
            entry, position = decode(text, position)
        except (ValueError, RecursionError):
            entries.problems.append(f"{path.name} ends within an entry, or is damaged after entry {entries.total}.")
            return
        if not isinstance(entry, dict):
            raise CorruptFileError(
                f"{path} is no log: entry {entries.total + 1} is no JSON object but {str(entry)[:20]}."
            )
        yield entry
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def check_format(path: Path, head: dict[str, Any]) -> None:
    """Refuses a file whose "format" says that a newer version has written it.

    Raises:
        SerializationError: it has.
    """
    version = head.get("format", FORMAT)
    if version != FORMAT:
        raise SerializationError(
            f"{path} has format {str(version)[:20]}, and this version of distrain reads format {FORMAT}. "
            "Install a newer distrain."
        )
