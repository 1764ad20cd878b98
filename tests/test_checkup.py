from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distrain import checkup


@pytest.mark.mpi
def test_what_ranks_find(run_ranks: Callable[..., Any], tmp_path: Path) -> None:
    record = tmp_path / "record"
    environ = {"PYTHONSAFEPATH": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    run_ranks(Path(checkup.__file__), 3, str(record), repr(time.time()), env=environ).check()
    check_record(record, 3)


def test_what_one_rank_finds(tmp_path: Path) -> None:
    checkup.main(str(tmp_path / "record"), time.time())
    check_record(tmp_path / "record", 1)


def check_record(record: Path, size: int) -> None:
    told = dict(json.loads(line) for line in record.read_text().splitlines())
    assert list(told) == ["world", "allreduce", *["clock"] * (size > 1), "feeders", "end"]
    assert told["world"]["size"] == len(told["world"]["ranks"]) == size
    assert len({rank["pid"] for rank in told["world"]["ranks"]}) == size
    assert {rank["host"] for rank in told["world"]["ranks"]} == {socket.gethostname()}
    assert told["allreduce"]["wrong"] == []
    assert 0 < told["allreduce"]["seconds"] < told["allreduce"]["after_start_s"]
    assert told["feeders"]["is_right"]
    assert len(told["feeders"]["seconds"]) == size
