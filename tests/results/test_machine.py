from __future__ import annotations

import os
import socket
import time

from distrain.results.machine import Machine


def test_this_machine_and_this_process() -> None:
    machine = Machine()
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    others = [{"host": "elsewhere", "pid": 1}, {"host": socket.gethostname(), "pid": 2**30}]
    first = machine.look([here, *others])
    assert list(first["processes"]) == [str(os.getpid())]
    assert first["processes"][str(os.getpid())]["busy"] in (None, 0.0)
    start = time.process_time()
    while time.process_time() - start < 0.2:
        pass
    found = machine.look([here])
    assert 0 < found["processes"][str(os.getpid())]["busy"] < 4
    assert found["processes"][str(os.getpid())]["memory"] > 10**7
    assert 0 < found["busy"] <= 1
    assert found["cores"] == os.cpu_count()
    assert 0 < found["memory"]["available"] <= found["memory"]["total"]


def test_a_system_that_says_nothing(tmp_path) -> None:
    found = Machine(tmp_path).look([{"host": socket.gethostname(), "pid": os.getpid()}])
    assert (found["busy"], found["memory"], found["processes"]) == (None, None, {})
