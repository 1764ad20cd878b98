from __future__ import annotations

from pathlib import Path

import pytest

from distrain_launch.oom import Watch

NOT_BY_THE_KERNEL = "not by the kernel for want of memory"
BY_THE_KERNEL = "the kernel killed it because memory ran out (OOM)"


def system(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "proc", folder / "groups"


V1 = {
    "proc/self/cgroup": "5:cpu:/\n4:memory:/job/step\n0::/\n",
    "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "groups/memory/job/memory.limit_in_bytes": "104857600\n",
    "groups/memory/job/step/memory.limit_in_bytes": "9223372036854771712\n",
    "groups/memory/job/step/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
    "proc/vmstat": "oom_kill 7\n",
}
V2 = {
    "proc/self/cgroup": "0::/job/step\n",
    "groups/job/memory.max": "104857600\n",
    "groups/job/step/memory.max": "max\n",
    "groups/job/step/memory.events": "low 0\nmax 3\noom 2\noom_kill {}\noom_group_kill 0\n",
}
MACHINE = {"proc/vmstat": "nr_free_pages 1\noom_kill {}\n"}


@pytest.mark.parametrize(
    ("files", "more"),
    [(V1, "; its control group /job/step may have 100 MiB"), (V2, "; its control group /job/step may have 100 MiB")]
    + [(MACHINE, "")],
    ids=["version 1", "version 2", "no control group"],
)
def test_what_the_kernel_counts(tmp_path: Path, files: dict[str, str], more: str) -> None:
    def write(kills: int) -> tuple[Path, Path]:
        return system(tmp_path, {name: text.format(kills) for name, text in files.items()})

    watch = Watch(*write(3))
    assert watch.verdict().startswith(NOT_BY_THE_KERNEL)
    write(4)
    assert watch.verdict() == BY_THE_KERNEL + more


def test_a_system_that_does_not_count(tmp_path: Path) -> None:
    assert Watch(tmp_path, tmp_path).verdict() == ""


def test_this_machine() -> None:
    assert Watch().verdict() == "" or Watch().verdict().startswith(NOT_BY_THE_KERNEL)
