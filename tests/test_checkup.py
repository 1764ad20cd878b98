from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distrain import checkup


@pytest.mark.mpi
@pytest.mark.parametrize("size", [1, 3])
def test_what_ranks_find(run_ranks: Callable[..., Any], tmp_path: Path, size: int) -> None:
    record = tmp_path / "record"
    environ = {"PYTHONSAFEPATH": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    run_ranks(Path(checkup.__file__), size, str(record), repr(time.time()), env=environ).check()
    told = dict(json.loads(line) for line in record.read_text().splitlines())
    assert list(told) == ["world", "allreduce", *["clock"] * (size > 1), "feeders", "end"]
    assert told["world"]["size"] == len(told["world"]["ranks"]) == size
    assert len({rank["pid"] for rank in told["world"]["ranks"]}) == size
    assert [rank["device"] for rank in told["world"]["ranks"]] == ["CPU"] * size
    assert told["allreduce"]["wrong"] == []
    assert 0 < told["allreduce"]["seconds"] < told["allreduce"]["after_start_s"]
    assert told["feeders"]["is_right"]
    assert len(told["feeders"]["seconds"]) == size
