from __future__ import annotations

import signal
from typing import Any

import pytest

from distrain.errors import LaunchError
from distrain_launch.conclusion import End, conclude
from distrain_launch.report import RUNNING, Rank

COMMAND = ["/x/mpiexec", "-n", "2", "a b"]


def rank(number: int, code: int | None = 0, **more: Any) -> Rank:
    return Rank(number, 2, "node07", 4711, code, **more)


def ended(number: int) -> Rank:
    return rank(number, -signal.SIGKILL, was_ended=True, iteration=7)


WELL = [rank(0), rank(1)]
FAILED = [rank(0, 3), ended(1)]
REPORT = "\nrank 0 of 2 on node07 (pid 4711) ended with exit code 3.\n"


@pytest.mark.parametrize(
    ("job", "more", "code", "words"),
    [
        (WELL, {}, 0, ""),
        (WELL, {"code": 5}, 5, ""),  # mpiexec has said why
        (FAILED, {"code": 3}, 3, REPORT),
        (FAILED[:1], {"code": 3}, 3, REPORT),
        ([rank(0, 0, state=RUNNING), ended(1)], {}, 1, None),
        (
            [ended(0), ended(1)],
            {"code": -9, "took_the_ranks": True},
            137,
            "distrain: /x/mpiexec was ended by SIGKILL and took the ranks with it.\n",
        ),
        (
            [rank(0, -15), ended(1)],
            {"code": 0, "took_the_ranks": True},
            1,
            "distrain: /x/mpiexec ended with exit code 0 and took the ranks with it.\n",
        ),
        # a signal
        (WELL, {"signal": 15}, 0, ""),
        ([], {"signal": 2, "code": -15}, 130, "distrain: ended by SIGINT.\n"),
        ([rank(0, 130), ended(1)], {"signal": 2}, 130, "distrain: ended by SIGINT at iteration 7.\n"),
        ([rank(0, -15), rank(1, -15)], {"signal": 15}, 143, "distrain: ended by SIGTERM.\n"),
        ([rank(0, 75), rank(1, 75)], {"signal": 15}, 75, ""),
        (
            [rank(0, 1, text="failed:\nKeyError: 1"), ended(1)],
            {"signal": 15},
            1,
            "\nrank 0 of 2 on node07 (pid 4711) failed:\nKeyError: 1\n",
        ),
        (
            [ended(0), ended(1)],
            {"signal": 15, "late": [ended(1), ended(0)], "limit_s": 2.5},
            143,
            "distrain: ranks 0, 1 did not end within 2.5 s of SIGTERM, so the job was killed.\n"
            "distrain: ended by SIGTERM at iteration 7.\n",
        ),
        (
            [rank(0, 75, text="stopped at iteration 7.\n"), ended(1)],
            {"late": [ended(1)]},
            75,
            "distrain: rank 1 did not end within 10 s of the first one that stopped, so the job was killed.\n"
            "distrain: stopped at iteration 7.\n",
        ),
        (
            [rank(0, 75), ended(1)],
            {"signal": 15, "late": [ended(1)]},
            75,
            "distrain: rank 1 did not end within 10 s of SIGTERM, so the job was killed.\n",
        ),
    ],
)
def test_code_and_last_words(job: list[Rank], more: dict[str, Any], code: int, words: str | None) -> None:
    found = conclude(job, 2, End(COMMAND, **more))
    assert found.code == code
    assert words is None or found.words == words
    assert found.failure is None or found.code not in (0, 75)
    assert found.failure is not None or found.code in (0, 75) or "signal" in more


@pytest.mark.parametrize(
    ("job", "more", "failure", "iteration"),
    [
        (FAILED, {}, "3 ", -1),
        ([rank(0, -9, iteration=4), ended(1)], {}, "-9 ", 4),
        ([rank(0, 1, text="failed:\nKeyError: <x at 0x7f01>"), ended(1)], {}, "1 KeyError: <x at 0x…>", -1),
        ([ended(0), ended(1)], {"code": -9, "took_the_ranks": True}, None, 7),
        (FAILED, {"signal": 15}, None, -1),
        ([rank(0, 75), rank(1, 75)], {}, None, -1),
        ([rank(0, 75), rank(1, 3)], {}, "3 ", -1),
        ([rank(0, 75, state=RUNNING), ended(1)], {}, "75 ", -1),
    ],
)
def test_kind_and_iteration_of_a_failure(job: list[Rank], more: dict[str, Any], failure: str, iteration: int) -> None:
    found = conclude(job, 2, End(COMMAND, **more))
    if "took_the_ranks" in more:
        failure = "/x/mpiexec was ended by SIGKILL and took the ranks with it"
    assert (found.failure, found.iteration) == (failure, iteration)


def test_ranks_that_were_never_started() -> None:
    with pytest.raises(LaunchError, match=r"code 7 when 1 of 2 ranks had started.*command was: .* -n 2 'a b'"):
        conclude([rank(0)], 2, End(COMMAND, code=7))


def test_times_of_training_are_those_of_rank_0() -> None:
    found = conclude([rank(1, before=9.0, trained=9.0), rank(0, before=1.0, trained=3.0)], 2, End(COMMAND))
    assert (found.before, found.trained) == (1.0, 3.0)
