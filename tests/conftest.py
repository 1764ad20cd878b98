"""What all tests share: ranks to run on, and a look behind every test for what it left."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before numpy is imported
    os.environ.setdefault(_name, "1")
for _name in ("OMPI_MCA_mpi_yield_when_idle", "MPIR_CVAR_ENABLE_HEAVY_YIELD"):  # ranks of several tests share the cores
    os.environ.setdefault(_name, "1")

# Under nohup, and in the background of a script, these are ignored, and what tests start would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_GONE_S = 3.0


def _load_mpi() -> ModuleType:
    return _load("distrain_tests_mpi", "mpi.py")


def _load(name: str, file: str) -> ModuleType:
    """A module of this folder; importlib mode puts none on the path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mpi_python" in metafunc.fixturenames:
        metafunc.parametrize("mpi_python", pythons := _load_mpi().interpreters(), ids=[_short(p) for p in pythons])
    if "ranks" in metafunc.fixturenames:
        metafunc.parametrize("ranks", _load_mpi().rank_counts())


def _short(python: str) -> str:
    return Path(python).parent.parent.name.lstrip(".")


@pytest.fixture
def mpi() -> ModuleType:
    """The module tests/mpi.py."""
    return _load_mpi()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A real Slurm of two nodes until the last test of the session is over; skips where there can be none."""
    slurm = _load("distrain_tests_slurm", "slurm/cluster.py")
    if reason := slurm.missing():
        pytest.skip(reason)
    with slurm.running() as cluster:
        yield cluster


@pytest.fixture
def run_ranks(mpi: ModuleType) -> Callable[..., Any]:
    """`run_ranks(script, n, *args, timeout=, python=, env=) -> Result`; see tests/mpi.py."""
    return mpi.run_ranks  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _clean_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DISTRAIN_SEED", raising=False)
    yield
    minibatch = sys.modules.get("distrain.minibatch")
    if minibatch is not None:
        minibatch.announce(None)


@pytest.fixture(autouse=True)
def _no_children_left() -> Iterator[None]:
    before = _children()
    yield
    end = time.monotonic() + _GONE_S
    while (left := _children() - before) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left, f"this test left processes behind: {sorted(left)}"


def _children() -> set[tuple[int, str]]:
    """Living children of this process; Python's own helpers, which serve all tests, do not count."""
    pids: list[str] = []
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            pids += task.read_text().split()
    found = set()
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            continue
        if command and "resource_tracker" not in command and "forkserver" not in command:  # "": has ended
            found.add((int(pid), command))
    return found
