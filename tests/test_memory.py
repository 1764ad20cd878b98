from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from distrain.memory import Memory, memory, resident

GB = 10**9


@pytest.fixture
def system(tmp_path: Path):
    """`system(files) -> (proc, groups)`: a machine with 8 GB, 6 of them available, and files by their paths."""

    def make(**files: str) -> tuple[Path, Path]:
        told = {
            "proc/meminfo": f"MemTotal: {8 * GB // 1024} kB\nMemAvailable: {6 * GB // 1024} kB\nHugePages_Total: 0\n"
        }
        for name, text in {**told, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "proc", tmp_path / "groups"

    return make


def test_this_machine() -> None:
    found = memory()
    assert found is not None
    assert 0 < found.available <= found.total
    before = resident()
    block = np.ones(40_000_000)  # far more than what else is returned to the system meanwhile
    after = resident(os.getpid())
    assert before is not None
    assert after is not None
    assert after - before > 0.9 * block.nbytes
    assert resident(2**30) is None


def test_without_control_groups(system) -> None:
    assert memory(*system()) == Memory(8 * GB, 6 * GB)


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert memory(tmp_path, tmp_path) is None


def test_the_tightest_group_counts_and_cached_files_do_not(system) -> None:
    found = memory(
        *system(
            **{
                "proc/self/cgroup": "0::/job/step\n",
                "groups/job/memory.max": str(4 * GB),
                "groups/job/memory.current": str(3 * GB),
                "groups/job/memory.stat": f"anon {GB}\ninactive_file {2 * GB}\n",
                "groups/job/step/memory.max": "max\n",
                "groups/job/step/memory.current": str(3 * GB),
            }
        )
    )
    assert found == Memory(4 * GB, 3 * GB)


def test_groups_of_version_1(system) -> None:
    found = memory(
        *system(
            **{
                "proc/self/cgroup": "5:cpu:/job\n4:memory:/job\n",
                "groups/memory/job/memory.limit_in_bytes": str(2 * GB),
                "groups/memory/job/memory.usage_in_bytes": str(GB),
                "groups/memory/memory.limit_in_bytes": str(2**63 - 4096),
                "groups/memory/memory.usage_in_bytes": str(GB),
            }
        )
    )
    assert found == Memory(2 * GB, GB)
