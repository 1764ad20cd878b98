from __future__ import annotations

import pytest

from distrain import restart
from distrain.errors import ArgumentError


def test_a_job_that_is_not_started_again() -> None:
    assert restart.job({}) is None
    assert not restart.is_on({"DISTRAIN_JOB": ""})
    assert restart.attempt({}) == restart.attempt({"DISTRAIN_RESTART": ""}) == 0


def test_a_job_that_is() -> None:
    environ = {"DISTRAIN_JOB": "slurm-7", "DISTRAIN_RESTART": "3"}
    assert (restart.job(environ), restart.is_on(environ), restart.attempt(environ)) == ("slurm-7", True, 3)


@pytest.mark.parametrize("text", ["two", "-1", "1.0", "٣", "1" * 10])
def test_an_attempt_that_is_no_number(text: str) -> None:
    with pytest.raises(ArgumentError, match="DISTRAIN_RESTART="):
        restart.attempt({"DISTRAIN_RESTART": text})
