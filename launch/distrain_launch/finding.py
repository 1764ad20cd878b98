"""What `distrain doctor` finds, and how it is shown. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "warning", "problem"]

_COLOURS = {"ok": 32, "warning": 33, "problem": 31}
_LEVEL_WIDTH = len("problem")
_CHECK_WIDTH = 14
_INDENT = " " * (_LEVEL_WIDTH + _CHECK_WIDTH + 2)
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: "problem" means that trainings fail because of it; "warning", that some may, or are slower than need be.
        check: what was looked at, in a word or two.
        found: what there is.
        remedy: how to mend it; None where nothing is wrong.
    """

    level: Level
    check: str
    found: str
    remedy: str | None = None


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding("ok", check, plain(found))


def warning(check: str, found: str, remedy: str) -> Finding:
    """Some trainings may fail, or are slower than need be."""
    return Finding("warning", check, plain(found), plain(remedy))


def problem(check: str, found: str, remedy: str) -> Finding:
    """Trainings fail because of it."""
    return Finding("problem", check, plain(found), plain(remedy))


def plain(text: str) -> str:
    """The text without control characters, but with its lines; they come from other programs and may say anything."""
    lines = _ESCAPE.sub("", text).replace("\r\n", "\n").replace("\t", "    ").strip().split("\n")
    kept = ["".join(char for char in line if char.isprintable()).rstrip() for line in lines]
    return "\n".join(line for line in kept if line)


def shown(finding: Finding, is_coloured: bool = False) -> str:
    """The lines for people."""
    level = finding.level.ljust(_LEVEL_WIDTH)
    if is_coloured:
        level = f"\x1b[{_COLOURS[finding.level]}m{level}\x1b[0m"
    text = f"{level} {finding.check.ljust(_CHECK_WIDTH)} {_indented(finding.found)}"
    return text if finding.remedy is None else f"{text}\n{_INDENT}-> {_indented(finding.remedy, '   ')}"


def _indented(text: str, more: str = "") -> str:
    return text.replace("\n", f"\n{_INDENT}{more}")


def as_json(findings: Sequence[Finding]) -> str:
    """The findings as a list of objects with the attributes of `Finding`."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def block(findings: Sequence[Finding], home: str | None = None) -> str:
    """The findings as text for a bug report, without the name of the user's home.

    Args:
        findings: all of them.
        home: the folder that is shown as `~`; None: this user's.
    """
    home = str(Path.home()) if home is None else home
    lines = [f"distrain doctor: {summary(findings)}"]
    for finding in findings:
        mark = "" if finding.level == "ok" else f"{finding.level.upper()}: "
        lines.append(f"{finding.check}: {mark}" + finding.found.replace("\n", "\n    "))
    text = "\n".join(lines)
    if len(home) > 1:  # a user without one has / for a home
        text = re.sub(rf"{re.escape(home)}(?=[/\s]|$)", "~", text)
    return f"```text\n{text.replace('```', '')}\n```"


def summary(findings: Sequence[Finding]) -> str:
    """How many problems and warnings there are."""
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    return f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'s' * (number != 1)}"
