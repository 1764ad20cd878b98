"""A real Slurm of two nodes for the tests of this folder; see cluster.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load() -> ModuleType:
    name = "distrain_tests_slurm"  # importlib mode puts no folder of tests on the path
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("cluster.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """The cluster, which runs until the last test of the session is over; skips where there can be none."""
    if reason := _load().missing():
        pytest.skip(reason)
    with _load().running() as cluster:
        yield cluster
