from __future__ import annotations

from typing import Any

import pytest

from distrain_launch.report import DESERTED, FORSAKEN, LEFT, RUNNING, Rank, describe, exit_code, first_failure


def rank(number: int, code: int | None = 0, ended: float = 0.0, **more: Any) -> Rank:
    return Rank(number, 4, "node07", 4711, code, ended, **more)


ERROR = "failed:\nTraceback (most recent call last):\n  …\nValueError: the cause\n"


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ([], None),
        ([rank(0, state=LEFT), rank(1, state=LEFT), rank(2), rank(3, None)], None),
        ([rank(0, 1, 5.0), rank(1, 3, 4.0)], (1, [])),
        ([rank(0, -15, 5.0, was_ended=True), rank(1, -9, 4.0)], (1, [])),
        # alike: the lowest speaks for all that failed at about the same time
        ([rank(0, 1, 4.2, text=ERROR), rank(1, 1, 4.1, text=ERROR), rank(2, 1, 4.0, text=ERROR)], (0, [1, 2])),
        ([rank(0, 1, 9.0, text=ERROR), rank(1, 1, 4.0, text=ERROR)], (1, [])),
        ([rank(0, 1, 4.1, text="failed: other"), rank(1, 1, 4.0, text=ERROR)], (1, [])),
        # a rank that waited for one that left is not the cause, if that one has a code
        ([rank(0, 1, 4.0, text=ERROR, state=FORSAKEN), rank(1, 3, 5.0, state=DESERTED)], (1, [])),
        ([rank(0, 1, 4.0, text=ERROR, state=FORSAKEN), rank(1, 0, 3.0, state=DESERTED)], (0, [])),
        ([rank(0, None), rank(1, 0, 3.0, state=RUNNING)], (1, [])),
        ([rank(0, 0, 4.0, state=RUNNING), rank(1, 0, 3.0, state=RUNNING)], None),  # all by os._exit(0)
        ([rank(0, None), rank(1, 0, 3.0, state=0)], None),  # not one of distrain's scripts
    ],
)
def test_first_failure(job: list[Rank], expected: tuple[int, list[int]] | None) -> None:
    found = first_failure(job)
    assert expected == (found and (found[0].rank, [other.rank for other in found[1]]))


@pytest.mark.parametrize(
    ("failed", "others", "expected"),
    [
        (
            rank(1, 1, text=ERROR, iteration=12),
            [],
            "rank 1 of 4 on node07 (pid 4711), iteration 12, failed:\n"
            "Traceback (most recent call last):\n  …\nValueError: the cause\n",
        ),
        (
            rank(1, 1, text=ERROR, lines=["a", "b", "c", "d", "e", "f"]),
            [rank(2), rank(3)],
            "rank 1 of 4 on node07 (pid 4711) failed:\n"
            "Traceback (most recent call last):\n  …\nValueError: the cause\n"
            "The last lines it printed:\n  b\n  c\n  d\n  e\n  f\nRanks 2, 3 failed alike.\n",
        ),
        (
            rank(1, 1, text=ERROR, lines=["Exception in main training loop: ValueError: the cause", "Will finalize"]),
            [rank(2)],
            "rank 1 of 4 on node07 (pid 4711) failed:\n"
            "Traceback (most recent call last):\n  …\nValueError: the cause\nRank 2 failed alike.\n",
        ),
        (
            rank(0, -11, lines=["step 3"], log="logs/rank-0.log"),
            [],
            "rank 0 of 4 on node07 (pid 4711) was ended by SIGSEGV (signal 11): a compiled library used memory that is "
            "not its own.\nThe last lines it printed:\n  step 3\n"
            "All that it printed is in logs/rank-0.log.\n",
        ),
        (rank(0, -10), [], "rank 0 of 4 on node07 (pid 4711) was ended by SIGUSR1 (signal 10).\n"),
        (rank(0, 3), [], "rank 0 of 4 on node07 (pid 4711) ended with exit code 3.\n"),
        (
            rank(0, 0, state=RUNNING),
            [],
            "rank 0 of 4 on node07 (pid 4711) ended with exit code 0 while other ranks waited for it.\n",
        ),
    ],
)
def test_describe(failed: Rank, others: list[Rank], expected: str) -> None:
    assert describe(failed, others) == expected


@pytest.mark.parametrize(
    ("failed", "code"),
    [(rank(0, 3), 3), (rank(0, -9), 137), (rank(0, 0, state=RUNNING), 1), (rank(0, 0, state=LEFT), 0)],
)
def test_exit_code_of_the_job(failed: Rank, code: int) -> None:
    assert failed.exit_code == code


def test_exit_code_of_the_shell() -> None:
    assert [exit_code(code) for code in (0, 3, -2)] == [0, 3, 130]
