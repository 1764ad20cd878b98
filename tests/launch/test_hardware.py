from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from distrain.errors import LaunchError
from distrain_launch.hardware import Cpu, Gpu, Hardware, cpus, listed_gpus, memory_limit, quota, visible_gpus


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine() -> None:
    here = Hardware.here()
    assert {cpu.number for cpu in here.cpus} == os.sched_getaffinity(0)
    assert 1 <= here.cores <= len(here.cpus)


def test_processors_know_their_core_and_node(tmp_path: Path) -> None:
    system = write(
        tmp_path,
        {
            "node/node0/cpulist": "0-1,4-5\n",
            "node/node1/cpulist": "2-3,6-7\n",
            **{f"cpu/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}\n" for n in range(8)},
        },
    )
    assert cpus([7, 0, 1, 4, 3], system) == (Cpu(0, 0, 0), Cpu(0, 0, 4), Cpu(0, 1, 1), Cpu(1, 3, 3), Cpu(1, 3, 7))
    assert Hardware(cpus([7, 0, 1, 4, 3], system)).cores == 3
    assert cpus([0, 5], tmp_path / "nowhere") == (Cpu(0, 0, 0), Cpu(0, 5, 5))


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/job/step\n", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "max 100000"}, 4.0),
        ("0::/job/step\n", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "200000 100000"}, 2.0),
        ("0::/not/seen/from/here\n", {"cpu.max": "300000 100000\n"}, 3.0),
        (
            "4:cpu,cpuacct:/docker/1\n1:name=systemd:/\n",
            {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {"cpu.max": "100000 100000"}, None),
    ],
)
def test_quota(tmp_path: Path, groups: str, files: Mapping[str, str], expected: float | None) -> None:
    assert quota(groups, write(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/job\n", {"memory.max": "max\n", "job/memory.max": "4096\n"}, 4096),
        ("0::/job\n", {"memory.max": "1024\n", "job/memory.max": "4096\n"}, 1024),
        ("4:memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": "2048\n"}, 2048),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("4:cpu:/\n", {"memory/memory.limit_in_bytes": "2048\n"}, None),
    ],
)
def test_memory_limit(tmp_path: Path, groups: str, files: Mapping[str, str], expected: int | None) -> None:
    assert memory_limit(groups, write(tmp_path, files)) == expected


@pytest.mark.parametrize(("limit", "cores"), [(None, 4), (9.0, 4), (2.5, 2), (0.5, 1)])
def test_a_quota_limits_the_cores(limit: float | None, cores: int) -> None:
    assert Hardware(tuple(Cpu(0, n, n) for n in range(4)), limit).cores == cores


LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 2g.10gb     Device  1: (UUID: MIG-2222)
"""
BUSES = "GPU-aaaa, 00000000:3B:00.0\nGPU-bbbb, 00000000:AF:00.0\n"
A, B1, B2 = Gpu("GPU-aaaa", "0", 0), Gpu("MIG-1111", "1:0 (3g.20gb)", 1), Gpu("MIG-2222", "1:1 (2g.10gb)", 1)


def test_gpus_are_named_by_uuid_and_a_divided_one_by_its_parts(tmp_path: Path) -> None:
    devices = write(tmp_path, {"0000:3b:00.0/numa_node": "0\n", "0000:af:00.0/numa_node": "1\n"})
    assert listed_gpus(LISTING, BUSES, devices) == (A, B1, B2)
    assert listed_gpus("No devices were found\n", "", devices) == ()
    write(tmp_path, {"0000:3b:00.0/numa_node": "-1\n"})
    assert listed_gpus(LISTING, BUSES, devices)[0].node is None


@pytest.mark.parametrize(
    ("gpus", "visible", "expected"),
    [
        ((A, B1, B2), None, (A, B1, B2)),
        ((A, B1, B2), "", ()),
        ((A, B1, B2), "-1", ()),
        ((A, B1, B2), "NoDevFiles", ()),
        ((A, B1, B2), "MIG-2222,GPU-aaaa", (B2, A)),
        ((A, B1, B2), "MIG-2", (Gpu("MIG-2", "1:1 (2g.10gb)", 1),)),
        ((A, B1, B2), "1, 0", (Gpu("1", "1"), Gpu("0", "0"))),
        ((), "0,3", (Gpu("0", "0"), Gpu("3", "3"))),
        ((), "MIG-GPU-1/0/0", (Gpu("MIG-GPU-1/0/0", "MIG-GPU-1/0/0"),)),
        ((), None, ()),
    ],
)
def test_what_cuda_visible_devices_leaves(gpus: tuple[Gpu, ...], visible: str | None, expected: tuple[Gpu]) -> None:
    assert visible_gpus(gpus, visible) == expected


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        ("0,7", r"CUDA_VISIBLE_DEVICES=0,7 names GPU 7, which .* There are: 0 \(GPU-aaaa\), 1:0"),
        ("GPU-cccc", "names GPU GPU-cccc"),
        ("MIG-", "names GPU MIG-,"),
        ("0,0", "names a GPU twice"),
        ("first", "names GPU first"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(visible: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        visible_gpus((A, B1, B2), visible)
