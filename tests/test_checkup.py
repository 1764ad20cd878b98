from __future__ import annotations

import json
import os
import time
from pathlib import Path

from distrain import checkup


def test_what_one_rank_finds(tmp_path: Path) -> None:
    """What two find is in tests/launch/test_doctor.py."""
    record = tmp_path / "record"
    checkup.main(str(record), time.time())
    told = dict(json.loads(line) for line in record.read_text().splitlines())
    assert list(told) == ["world", "allreduce", "feeders", "end"]
    assert told["world"]["size"] == len(told["world"]["ranks"]) == 1
    assert told["world"]["ranks"][0]["pid"] == os.getpid()
    assert told["allreduce"]["wrong"] == []
    assert 0 < told["allreduce"]["seconds"] < told["allreduce"]["after_start_s"]
    assert told["feeders"]["is_right"]
