from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from distrain.results.machine import Machine


def test_this_machine_and_this_process() -> None:
    machine = Machine()
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    others = [{"host": "elsewhere", "pid": 1}, {"host": socket.gethostname(), "pid": 2**30}]
    first = machine.look([here, *others])
    assert {pid: one["state"] for pid, one in first["processes"].items()} == {
        str(os.getpid()): "running", str(2**30): "gone",
    }  # fmt: skip
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


def test_a_process_that_is_stopped_and_then_killed() -> None:
    machine = Machine()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = {"host": socket.gethostname(), "pid": process.pid}

        def wait_for(state: str) -> None:
            end = time.monotonic() + 60
            while machine.look([here])["processes"][str(process.pid)]["state"] != state:
                assert time.monotonic() < end, state

        wait_for("running")
        process.send_signal(signal.SIGSTOP)
        wait_for("stopped")
        process.kill()
        wait_for("gone")  # also before anybody has asked for its exit code


def test_a_system_that_says_nothing(tmp_path) -> None:
    found = Machine(tmp_path).look([{"host": socket.gethostname(), "pid": os.getpid()}])
    assert (found["busy"], found["memory"], found["processes"]) == (None, None, {})
