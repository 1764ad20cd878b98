from __future__ import annotations

import json

import pytest

from distrain_launch.finding import Finding, as_json, block, ok, plain, problem, shown, summary, warning

FINDINGS = [
    ok("python", "3.13 in /home/ada/env"),
    warning("/dev/shm", "64 MiB", "More."),
    problem("ranks", "they failed\nand said so", "Mend it.\nThen try again."),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("  one line \n", "one line"),
        ("\x1b[31mred\x1b[0m and \x07loud\x00", "red and loud"),
        ("a\r\nb\n\n\tc\u202e", "a\nb\n    c"),
        ("café -> ± µs", "café -> ± µs"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_shown() -> None:
    assert shown(FINDINGS[0]) == "ok      python         3.13 in /home/ada/env"
    assert shown(FINDINGS[0], is_coloured=True).startswith("\x1b[32mok     \x1b[0m python ")
    assert shown(FINDINGS[2]).splitlines() == [
        "problem ranks          they failed",
        "                       and said so",
        "                       -> Mend it.",
        "                          Then try again.",
    ]


def test_block() -> None:
    assert block(FINDINGS, home="/home/ada").splitlines() == [
        "```text",
        "distrain doctor: 1 problem, 1 warning",
        "python: 3.13 in ~/env",
        "/dev/shm: WARNING: 64 MiB",
        "ranks: PROBLEM: they failed",
        "    and said so",
        "```",
    ]
    assert "/home/ada/env" in block(FINDINGS, home="/")
    assert "/home/ada/env" in block(FINDINGS, home="/home/ad")
    assert block([ok("x", "```\n# not a title")]).count("```") == 2


def test_as_json() -> None:
    assert [Finding(**entry) for entry in json.loads(as_json(FINDINGS))] == FINDINGS


@pytest.mark.parametrize(
    ("findings", "expected"),
    [([], "no problems, no warnings"), (FINDINGS, "1 problem, 1 warning"), (FINDINGS * 2, "2 problems, 2 warnings")],
)
def test_summary(findings: list[Finding], expected: str) -> None:
    assert summary(findings) == expected
