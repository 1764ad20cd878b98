"""One training, as its result folder tells it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distrain.errors import ArgumentError, SerializationError
from distrain.results.entries import Entries, check_format, read_entries
from distrain.results.ranks import read_ranks

_LOGS = ("log.jsonl", "log")  # the first is only ever appended to, so it is the better one after a crash
_ITERATION = re.compile(r"iter_(\d+)")
_GRAPH_NBYTES = 1 << 20  # nobody looks at a larger one


@dataclass(frozen=True)
class Snapshot:
    """A file with a model or a whole training.

    Attributes:
        name: of the file.
        nbytes: its size.
        time: when it was written; ISO 8601, UTC.
        iteration: as the name says, or None.
    """

    name: str
    nbytes: int
    time: str
    iteration: int | None


@dataclass(frozen=True)
class Run:
    """What a result folder says about a training.

    Attributes:
        name: short, for a legend.
        path: of the folder.
        log: name of the file with the entries.
        entries: the numbers in it.
        starts: the starts that `run.json` lists, oldest first; see `RunRecord`.
        snapshots: in the folder, oldest first.
        graph: the text of `cg.dot`, or None.
        problems: what was wrong with the files, in sentences.
        ranks: what `ranks.json` says, see `read_ranks`; or None.
    """

    name: str
    path: Path
    log: str
    entries: Entries
    starts: Sequence[dict[str, Any]]
    snapshots: Sequence[Snapshot]
    graph: str | None
    problems: Sequence[str]
    ranks: dict[str, Any] | None = None


def read_run(place: str | os.PathLike[str], name: str | None = None, limit: int = 4000) -> Run:
    """Reads a result folder.

    A log that ends within an entry, a damaged `run.json` or numbers that are NaN are no errors; `problems` tells of the
    first two.

    Args:
        place: the folder, or the log in it if that has another name than `log`.
        name: for a legend; None: the name of the folder.
        limit: so many entries of a longer log are kept at least, evenly chosen.

    Raises:
        ArgumentError: there is no such folder, or no log in it.
        SerializationError: a newer version has written the files, the log is none, or it cannot be read.
    """
    path = Path(place)
    try:
        log = find_log(path)
        return with_entries(log, read_entries(log, limit), name)
    except OSError as error:
        where = error.filename or path
        raise SerializationError(f"{where} cannot be read: {error.strerror or error}.") from error


def with_entries(log: Path, entries: Entries, name: str | None = None) -> Run:
    """The run of a log whose entries are known; the other files of its folder are read.

    Raises:
        OSError: the folder cannot be read.
        SerializationError: a newer version has written `run.json`.
    """
    folder = log.parent
    problems = list(entries.problems)
    starts = _starts(folder / "run.json", problems)
    graph = _graph(folder / "cg.dot", problems)
    ranks = read_ranks(folder / "ranks.json", problems)
    name = name or folder.resolve().name or str(folder)
    return Run(name, folder, log.name, entries, starts, _snapshots(folder), graph, problems, ranks)


def find_log(path: Path) -> Path:
    """The log of a result folder, or the given one.

    Raises:
        ArgumentError: there is no such folder, or no log in it.
    """
    if path.is_file():
        return path.with_name("log.jsonl") if path.name == "log" and path.with_name("log.jsonl").is_file() else path
    if not path.is_dir():
        raise ArgumentError(f"there is no folder {path} (looked in {Path.cwd()}).")
    for name in _LOGS:
        if (path / name).is_file():
            return path / name
    others = sorted(one.name for one in path.glob("*.jsonl"))
    hint = f"Name it, if it is one of {', '.join(others[:5])}" if others else "Name the file, if it is called otherwise"
    raise ArgumentError(
        f"{path} has no log: neither log.jsonl nor log. {hint}: distrain report {path / (others or ['NAME'])[0]}. "
        "The extension LogReport writes it."
    )


def _starts(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append("There is no run.json, so settings and seed are unknown; the extension RunRecord writes it.")
        return []
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"run.json cannot be read: {error}.")
        return []
    if isinstance(record, dict):
        check_format(path, record)
    starts = record.get("starts") if isinstance(record, dict) else None
    if not isinstance(starts, list):
        problems.append('run.json has no list "starts".')
        return []
    return [start for start in starts if isinstance(start, dict)]


def _graph(path: Path, problems: list[str]) -> str | None:
    try:
        if path.stat().st_size > _GRAPH_NBYTES:
            problems.append(f"cg.dot is left out: it has more than {_GRAPH_NBYTES:,} bytes.")
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"cg.dot cannot be read: {error.strerror or error}.")
        return None


def _snapshots(folder: Path) -> list[Snapshot]:
    found = []
    for one in folder.iterdir():
        if not (one.name.startswith("snapshot") or one.suffix == ".npz"):
            continue
        try:
            status = one.stat()
        except OSError:  # removed since, or a link to nowhere
            continue
        if one.is_file():
            match = _ITERATION.search(one.name)
            time = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
            found.append((status.st_mtime, Snapshot(one.name, status.st_size, time, int(match[1]) if match else None)))
    return [snapshot for _, snapshot in sorted(found, key=lambda pair: (pair[0], pair[1].name))]
