from __future__ import annotations

import struct
from typing import Any

import pytest

from distrain_launch.collectives import Operation, describe, read
from distrain_launch.report import Rank

NOW = 1000.0
WORLD, PART = (0, 0, 1), (1, 4, 0)


def operation(count: int, end: float = 0.0, **more: Any) -> Operation:
    values = {"lane": WORLD, "size": 3, "action": "sum", "dtype": "float32", "elements": 11, **more}
    return Operation(count, NOW - 3.0, end, count, **values)


def job(*operations: list[Operation]) -> list[Rank]:
    return [Rank(r, 3, "node07", 4711 + r, -15, NOW, operations=some) for r, some in enumerate(operations)]


def test_who_did_not_come_to_an_exchange_is_named() -> None:
    waits = [operation(6, NOW - 3.0), operation(7)]
    assert list(describe(job(waits, [operation(6, NOW - 2.5)], waits), NOW, was_killed=True)) == [
        "The last collectives:",
        "  ranks 0, 2: in exchange 7 of gradients, sum of 11 float32, to which rank 1 did not come",
        "  rank 1: in none; the last was exchange 6 of gradients, sum of 11 float32, which ended 2.5 s before",
    ]


def test_all_may_have_come() -> None:
    ranks = job(*[[operation(7)]] * 3)
    assert list(describe(ranks, NOW, was_killed=True))[1:] == [
        "  ranks 0, 1, 2: in exchange 7 of gradients, sum of 11 float32, to which all came"
    ]


def test_of_a_part_of_the_job_only_its_ranks_can_be_late() -> None:
    part = {"lane": PART, "size": 2, "action": "barrier", "elements": -1, "dtype": ""}
    ranks = job([operation(9, NOW - 1)], [operation(2, **part)], [operation(1, NOW - 1, **part)])
    assert "  rank 1: in collective 2, barrier, to which rank 2 did not come" in describe(ranks, NOW, was_killed=True)


def test_a_message_has_another_end() -> None:
    message = operation(2, lane=(0, 0, 2), action="recv from", elements=-1)
    assert "  rank 0: in recv from rank 2" in describe(job([message], [operation(1, NOW)], []), NOW, was_killed=True)


@pytest.mark.parametrize(
    ("left", "was_killed", "count"),
    [
        (job([operation(1)], [operation(1)], [operation(1)]), False, 2),  # they have waited for three seconds
        (job([operation(1, NOW)], [operation(1, NOW)], [operation(1, NOW)]), False, 0),
        (job([operation(1, NOW)], [operation(1, NOW)], []), True, 2),
        (job([], [], []), True, 0),
    ],
)
def test_it_is_said_where_it_is_news(left: list[Rank], was_killed: bool, count: int) -> None:
    assert len(list(describe(left, NOW, was_killed=was_killed))) == count


def test_entries_that_a_kill_left_unfinished_are_left_out() -> None:
    entry = struct.Struct("=qddqqiiii16s16sq")
    whole = entry.pack(4, 1.0, 2.0, 5, -1, 0, 0, 2, 0, b"barrier", b"", 4)
    half = entry.pack(36, 1.0, 0.0, 5, -1, 0, 0, 2, 0, b"barrier", b"", 4)
    assert [one.text for one in read(half + whole + bytes(entry.size))] == ["collective 5, barrier"]
    assert read(b"") == []
