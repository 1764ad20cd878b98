"""A report about trainings: one HTML file that needs no other, and no network.

The page is the same whatever it shows: markup, style and scripts are files in `page/`, and the runs are JSON in a block
that no browser executes. The page's own scripts put them in as text, never as markup. A policy in the head forbids
everything else: other scripts, other styles, any address.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.metadata
import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from distrain.errors import ArgumentError, SerializationError
from distrain.files import atomic_write
from distrain.results.graph import to_svg
from distrain.results.run import Run, read_run

FORMAT = 1  # of the data in the page

_SCRIPTS = ("curves.js", "chart.js", "tables.js", "ranks.js", "page.js")  # later ones use earlier ones
_ENDINGS = (".html", ".htm")
_ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}  # as JSON has them in strings
_DIGITS = 9  # of a number: more than anybody sees, and half of a file


def write_report(places: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str]) -> list[Run]:
    """Writes a report about one or several trainings, which a browser opens from disk.

    Args:
        places: result folders, or the logs in them; see `read_run`.
        path: of the file; its name ends with ".html". An older one is replaced.

    Returns:
        The runs, in the order of `places`.

    Raises:
        ArgumentError: a folder or its log is not there, one is given twice, or the name does not end with ".html".
        SerializationError: a log cannot be read, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in _ENDINGS:  # `-o result/log` by mistake would replace the log
        raise ArgumentError(f"the report is to be written to {target}; let its name end with .html.")
    if not places:
        raise ArgumentError("a report needs at least one result folder.")
    runs = _with_names(places, [read_run(place) for place in places])
    text = as_page(runs)
    try:
        with atomic_write(target) as stream:
            stream.write(text)
    except OSError as error:
        raise SerializationError(
            f"{target} cannot be written: {error.strerror or error}. Give another file with -o."
        ) from error
    return runs


def _with_names(places: Sequence[str | os.PathLike[str]], runs: Sequence[Run]) -> list[Run]:
    """The runs with names that tell them apart: those of the folders, or the places as given where these are alike."""
    logs = [os.path.realpath(run.path / run.log) for run in runs]
    names = [run.name for run in runs]
    for place, log in zip(places, logs, strict=True):
        if logs.count(log) > 1:
            raise ArgumentError(f"{os.fspath(place)} is given {logs.count(log)} times; once is enough.")
    return [
        run if names.count(run.name) == 1 else replace(run, name=os.fspath(place))
        for place, run in zip(places, runs, strict=True)
    ]


def as_page(runs: Sequence[Run]) -> bytes:
    """The whole HTML file about some runs."""
    return assembled("Training report", as_data(runs))[0]


def assembled(heading: str, data: dict[str, Any], scripts: Sequence[str] = (), more: str = "") -> tuple[bytes, str]:
    """The page with some data in it, and its content security policy.

    Args:
        heading: of the page.
        data: as by `as_data`.
        scripts: files in `page/` that run after those of a report.
        more: what the policy is to allow besides.
    """
    script = "\n".join(_asset(name) for name in (*_SCRIPTS, *scripts))
    style = _asset("page.css")
    title = f"{heading}: " + ", ".join(run["name"] for run in data["runs"])
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        f"base-uri 'none'; form-action 'none'{more}"
    )
    parts = {
        "policy": policy,
        "title": html.escape(title if len(title) <= 200 else title[:199] + "…"),
        "heading": html.escape(heading),
        "style": style,
        "script": script,
        "data": embedded(data),
    }
    before, *rest = _asset("page.html").split("{{")
    page = [before]
    for piece in rest:  # one pass: what was put in is not looked at again
        name, _, after = piece.partition("}}")
        page += [parts[name], after]
    return "".join(page).encode("utf-8", "replace"), policy


def embedded(data: Any) -> str:
    """JSON that can stand in a `<script>` block, whatever strings are in it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def as_data(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page shows, as JSON has it: the argument of `show` in `page/page.js`.

    "ranks" has one item a run: what `read_ranks` returns. "machine" is for a page that follows a training.
    """
    return {
        "format": FORMAT,
        "version": _version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": [run_as_data(run) for run in runs],
        "ranks": [run.ranks for run in runs],
        "machine": None,
    }


def _version() -> str:
    try:
        return importlib.metadata.version("distrain")
    except importlib.metadata.PackageNotFoundError:  # a source tree on PYTHONPATH
        return "(not installed)"


def run_as_data(run: Run, columns: dict[str, list[Any]] | None = None) -> dict[str, Any]:
    """One of the "runs" of `as_data`.

    Args:
        run: what to show.
        columns: its columns, each value as by `short`; None makes them of the run's entries.
    """
    if columns is None:
        columns = {key: [short(value) for value in column] for key, column in run.entries.columns.items()}
    svg, note = to_svg(run.graph) if run.graph is not None else (None, "")
    return {
        "name": run.name,
        "path": str(run.path),
        "log": run.log,
        "total": run.entries.total,
        "stride": run.entries.stride,
        "columns": columns,
        "starts": _finite(list(run.starts)),
        "snapshots": [vars(one) for one in run.snapshots],
        "graph": run.graph,
        "picture": base64.b64encode(svg).decode() if svg is not None else None,
        "picture_note": note,
        "problems": list(run.problems),
    }


def short(value: float | None) -> float | str | None:
    """A number as the page has it: no longer than anybody sees, and a string if JSON does not have it."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else _spelled(value)


def _spelled(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"  # as JavaScript writes them


def _finite(value: Any) -> Any:
    """The same with strings for NaN and infinite numbers, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return _spelled(value)
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


def _asset(name: str) -> str:
    return (resources.files("distrain.results") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
