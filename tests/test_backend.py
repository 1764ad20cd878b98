"""Devices and what they accept."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from distrain import backend, cuda
from distrain.errors import DeviceError


@pytest.mark.parametrize("spec", [-1, np.int64(-1), "@numpy", "cpu", "cpu:0", "@cpu", backend.CPU, cuda.DummyDevice()])
def test_names_of_the_cpu(spec):
    assert backend.get_device(spec) == backend.CPU
    assert backend.get_device(spec).xp is np


def test_cpu_devices_differ_by_name():
    one = backend.get_device("cpu:1")
    assert one != backend.CPU
    assert backend.get_device(one.name) == one


@pytest.mark.parametrize("spec", ["", "tpu", "cpu:", "cpu:-1", True, None, 1.5])
def test_no_device(spec):
    with pytest.raises(DeviceError, match="names no device"):
        backend.get_device(spec)


def test_send_nests():
    Pair = namedtuple("Pair", "a b")
    x = np.ones(2)
    sent = backend.CPU.send({"p": Pair(x, [x, None]), "n": 3, "t": (x, "s")})
    assert type(sent["p"]) is Pair
    assert sent["p"].a is x
    assert sent["p"].b == [x, None] or sent["p"].b[0] is x
    assert sent["t"][1] == "s"


def test_the_cpu_of_old_scripts():
    cuda.get_device(-1).use()
    with cuda.get_device_from_id(None) as device:
        assert device.id == -1
