from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from distrain.awake import AwakeClock

SCRIPT = """
import time
from distrain.awake import AwakeClock
now = AwakeClock(0.3)
began = now()
for _ in range(20):
    time.sleep(0.05)
    print(now() - began, flush=True)
"""


def test_it_goes_on_as_the_other_one() -> None:
    now, offset = AwakeClock(5.0), time.monotonic()
    began = now()
    time.sleep(0.05)
    assert abs((now() - began) - (time.monotonic() - offset)) < 0.02


def test_it_stands_still_while_the_process_is_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(2.0)
        os.kill(child.pid, signal.SIGCONT)
        *_, last = child.stdout.read().splitlines()
        assert child.wait(20) == 0
    assert 0.9 < float(last) < 2.0
