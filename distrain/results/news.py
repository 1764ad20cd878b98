"""What is new in trainings that are followed, for a page that knows the rest."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

from distrain.results.entries import Entries
from distrain.results.follow import Followed
from distrain.results.machine import Machine
from distrain.results.report import as_data, assembled, run_as_data, short

_SHORTEST_S = 0.5  # between two looks at the files, however many readers there are
_MARKS = 100  # versions of which is known what a reader has who saw them
_BIG = ("graph", "picture", "picture_note")  # parts of a run that hardly ever change


class News:
    """All runs and the machine, as `as_data` has them, or what of it a reader does not have. Threads may share it.

    Args:
        followed: the runs.
    """

    def __init__(self, followed: Sequence[Followed]) -> None:
        self._runs = [_RunNews(one) for one in followed]
        self._machine = Machine()
        self._lock = threading.Lock()
        self._looked = -_SHORTEST_S
        self._start = secrets.token_hex(4)  # versions of another server mean nothing here
        self._data: dict[str, Any] = {}

    def page(self) -> tuple[bytes, str]:
        """The page with all there is, and its policy."""
        with self._lock:
            return assembled("Training monitor", self._since(""), ["live.js"], "; connect-src 'self'")

    def since(self, have: str) -> bytes:
        """JSON as of `as_data`, with "have" for the next time.

        A run that the reader has already is null. One that has only grown has a number "from", and then the rows of its
        columns from that one on; what has not changed is left out.

        Args:
            have: what the reader was given the last time.
        """
        with self._lock:
            return json.dumps(self._since(have), allow_nan=False, separators=(",", ":")).encode()

    def _since(self, have: str) -> dict[str, Any]:
        if time.monotonic() - self._looked >= _SHORTEST_S:
            self._look()
            self._looked = time.monotonic()
        start, *versions = have.split(".")
        known = versions if start == self._start and len(versions) == len(self._runs) else [""] * len(self._runs)
        runs = [run.since(had) for run, had in zip(self._runs, known, strict=True)]
        return {**self._data, "runs": runs, "have": ".".join([self._start, *(run.version for run in self._runs)])}

    def _look(self) -> None:
        now = time.time()
        ranks = []
        for run in self._runs:
            run.look()
            told = run.followed.ranks
            ranks.append(told and {**told, "age": max(0.0, now - told["time"])})
        machine = self._machine.look([rank for one in ranks if one for rank in one["ranks"]])
        self._data = {**as_data([]), "ranks": ranks, "machine": machine}


class _RunNews:
    """One run, and what readers of its versions have."""

    def __init__(self, followed: Followed) -> None:
        self.followed = followed
        self.version = ""
        self._entries = Entries()
        self._stride = 0
        self._data: dict[str, Any] = {"columns": {}, "graph": None}
        self._marks: dict[str, int] = {}  # by version: rows that are still the same

    def look(self) -> None:
        """Takes what has changed; numbers that were there are not spelled again."""
        self.followed.look()
        version = str(self.followed.version)
        if version == self.version:
            return
        run, old = self.followed.run, self._data
        entries = run.entries
        has_grown = (
            entries is self._entries
            and entries.stride == self._stride
            and list(entries.columns) == list(old["columns"])
        )
        start = self._marks[self.version] if has_grown else 0
        columns = {
            key: [*(old["columns"][key][:start] if start else ()), *map(short, column[start:])]
            for key, column in entries.columns.items()
        }
        self._data = run_as_data(run, columns)
        if not has_grown or run.graph != old["graph"] or len(self._marks) >= _MARKS:
            self._marks = {}
        self._entries, self._stride, self.version = entries, entries.stride, version
        self._marks[version] = entries.settled

    def since(self, had: str) -> dict[str, Any] | None:
        """The run for a reader who has that version."""
        if had == self.version:
            return None
        start = self._marks.get(had)
        if start is None:
            return self._data
        tails = {key: column[start:] for key, column in self._data["columns"].items()}
        return {**{key: value for key, value in self._data.items() if key not in _BIG}, "columns": tails, "from": start}
