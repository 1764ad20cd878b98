"""`distrain doctor` on a machine with a GPU."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from distrain import cuda

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not cuda.available, reason="needs a GPU")]


def test_it_names_the_gpu_of_each_rank(mpi: Any) -> None:
    result = mpi.run([sys.executable, "-m", "distrain_launch", "doctor", "--full", "--json"]).check()
    found = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert found["cuda driver"]["found"].startswith("driver ")
    assert found["cupy"]["level"] == "ok"
    name = cuda.cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    assert found["world"]["found"].count(name) == 2
