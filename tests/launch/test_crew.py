"""GPUs that vanish between two attempts: nvidia-smi is a stand-in that lists what the test puts into a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from distrain.errors import LaunchError
from distrain_launch import crew
from distrain_launch.crew import Crew, OnThisMachine
from distrain_launch.hardware import Hardware
from distrain_launch.mpiexec import Command

SMI = """#!/bin/sh
[ "$1" = -L ] || exit 0
cat "$(dirname "$0")/gpus"
"""


class Machine:
    """What nvidia-smi says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "nvidia-smi").write_text(SMI)
        (folder / "nvidia-smi").chmod(0o755)

    def has(self, *numbers: int) -> None:
        lines = [f"GPU {number}: A card (UUID: GPU-{number}{number})\n" for number in numbers]
        (self._folder / "gpus").write_text("".join(lines))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made = Machine(tmp_path)
    made.has(0, 1, 2)
    return made


def starter(ranks: int) -> crew.Starter:
    return lambda keeper: Command([f"start {ranks}", *keeper])


def gather(muster: OnThisMachine) -> Crew:
    found = muster.gather(is_again=True)
    assert isinstance(found, Crew)
    return found


def devices(found: Crew) -> list[str]:
    return [place.gpu.device for place in found.places if place.gpu is not None]


def test_gpus_that_vanish_and_return(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    muster = OnThisMachine(3, 2, Hardware.here(), False, starter)
    first = muster.gather(is_again=False)
    assert isinstance(first, Crew)
    assert (devices(first), first.reason) == (["GPU-00", "GPU-11", "GPU-22"], "")
    machine.has(0, 2)
    fewer = gather(muster)
    assert devices(fewer) == ["GPU-00", "GPU-22"]
    assert fewer.command([]).arguments == ["start 2"]
    assert fewer.reason == "2 of 3 ranks, one for each GPU that is there (0, 2)"
    machine.has(1)
    with pytest.raises(LaunchError, match=r"^1 of 3 GPUs are there \(1\), but --min-n 2 asks for more\. Look with nv"):
        muster.gather(is_again=True)
    machine.has()
    with pytest.raises(LaunchError, match=r"^0 of 3 GPUs are there \(none\)"):
        muster.gather(is_again=True)
    machine.has(0, 1, 2, 3)
    assert len(gather(muster).places) == 3


def test_gpus_that_are_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-11,GPU-22")
    some, all_of_them = (OnThisMachine(2, least, Hardware.here(), False, starter) for least in (1, None))
    machine.has(0, 2)
    assert devices(gather(some)) == ["GPU-22"]
    with pytest.raises(LaunchError, match="names GPU GPU-11, which"):
        all_of_them.gather(is_again=True)


def test_ranks_without_gpus_stay_as_many_as_they_are(machine: Machine) -> None:
    machine.has()
    assert len(gather(OnThisMachine(4, 1, Hardware.here(), False, starter)).places) == 4
