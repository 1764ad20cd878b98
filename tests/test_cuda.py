"""What a machine without a GPU, or without CuPy, has of `distrain.cuda`; tests/gpu has the rest."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import distrain
from distrain import cuda
from distrain.errors import DeviceError

without_gpu = pytest.mark.skipif(cuda.available, reason="this machine has a GPU and CuPy")


@without_gpu
@pytest.mark.parametrize(
    "ask",
    [
        cuda.require_cupy,
        lambda: cuda.cupy,
        lambda: cuda.get_device_from_id(0),
        lambda: cuda.get_device(0),
        lambda: cuda.to_gpu(np.zeros(2)),
        lambda: cuda.pinned_empty((2,), np.float32),
        lambda: distrain.get_device("@cupy:0"),
        lambda: distrain.links.Linear(2, 1).to_gpu(),
    ],
)
def test_asking_for_a_gpu_says_what_is_missing(ask: Any) -> None:
    with pytest.raises(DeviceError, match=r"a GPU was asked for, but .*device -1 \(the CPU\)"):
        ask()


NO_CUPY = """
import sys
sys.modules["cupy"] = None  # what Python itself does to make an import fail
from distrain import cuda
assert cuda.available is False
try:
    cuda.get_device(0)
except cuda.DeviceError as error:
    print(error)
"""


def test_without_cupy_the_message_names_the_extras() -> None:
    run = subprocess.run([sys.executable, "-c", NO_CUPY], capture_output=True, text=True, timeout=60, check=True)
    assert "CuPy cannot be imported" in run.stdout
    for extra in ("distrain[cuda12]", "distrain[cuda13]"):
        assert extra in run.stdout


@without_gpu
def test_available_is_false() -> None:
    assert cuda.available is False


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cuda.nothing  # noqa: B018


def test_looking_at_arrays_does_not_import_cupy() -> None:
    script = (
        "import sys, numpy as np; from distrain import cuda; "
        "assert cuda.get_array_module(np.zeros(1)) is np; cuda.to_cpu(np.zeros(1)); cuda.get_device(-1).use(); "
        "assert 'cupy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)


@pytest.mark.parametrize("argument", [-1, -3, np.int64(-1), np.zeros(2), None, True, "text"])
def test_what_names_no_gpu_is_the_dummy_device(argument: Any) -> None:
    device = cuda.get_device(argument)
    assert isinstance(device, cuda.DummyDevice)
    device.use()


def test_the_first_argument_that_names_a_device_counts() -> None:
    assert cuda.get_device(np.zeros(2), -1) == cuda.get_device_from_id(None) == cuda.get_device_from_id(-1)
    assert cuda.get_device() == cuda.DummyDevice()


def test_the_dummy_device_is_one_for_all() -> None:
    device = cuda.DummyDevice()
    assert device.id == -1
    assert {device, cuda.DummyDevice()} == {device}
    assert device != -1
    with device as entered:
        assert entered is device
    with pytest.raises(ZeroDivisionError), device:  # it swallows nothing
        1 / 0  # noqa: B018
    assert distrain.get_device(device) == distrain.get_device(-1)


def test_the_array_module_of_host_arrays_is_numpy() -> None:
    for x in (np.zeros(2), distrain.Variable(np.zeros(2, np.float32)), 1.0, None):
        assert cuda.get_array_module(x) is np
    assert cuda.get_array_module() is np
    assert not cuda.is_gpu_array(np.zeros(2))


def test_a_host_array_is_on_the_cpu_already() -> None:
    x = np.zeros(2)
    assert cuda.to_cpu(x) is x
