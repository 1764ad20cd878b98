from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

PARENT = """
import os, time
from distrain import mortal
parent = os.getpid()
if os.fork() == 0:
    assert mortal.die_with(parent)
    os.write(1, b"%d\\n" % os.getpid())
time.sleep(60)
"""


def test_a_process_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        assert select.select([pidfd], [], [], 10.0)[0]
        os.close(pidfd)


def test_a_parent_that_is_gone() -> None:
    code = "import os\nfrom distrain import mortal\nprint(mortal.die_with(os.getpid()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "False\n"
