"""The process of one device as the main process has it: how it starts, and how it is reached."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from distrain.training.updaters.worker import BOOT


class WorkerProcess:
    """A worker, from the main process's side; see `Workers`.

    Args:
        number: of its device.
        device: as the user named it.
        cargo_fd, shared_fd: files that it gets.
        environment: its variables.
        limit_s: how long it may stop in the middle of a message.

    Attributes:
        name: for messages.
        process: of which it is.
        pidfd: readable when it has ended.
        connection: to it.
        owes: whether an answer is still to come.
        stopped: since when it was seen to be stopped.
    """

    def __init__(
        self, number: int, device: Any, cargo_fd: int, shared_fd: int, environment: dict[str, str], limit_s: float
    ) -> None:
        ours, theirs = socket.socketpair()
        limit = struct.pack("ll", int(limit_s), int(limit_s % 1 * 1e6))
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):  # within a message; between them one waits otherwise
            ours.setsockopt(socket.SOL_SOCKET, option, limit)
        boot = {
            "path": sys.path,
            "argv": sys.argv,
            "main": os.getpid(),
            "kill": threading.current_thread() is threading.main_thread(),
            "number": number,
            "control": theirs.fileno(),
            "cargo": cargo_fd,
            "shared": shared_fd,
        }
        with ours, theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(boot)],
                pass_fds=(theirs.fileno(), cargo_fd, shared_fd),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
            self.connection = Connection(ours.detach())
        self.pidfd = os.pidfd_open(self.process.pid)
        self.name = f"worker {number} (device {device}, pid {self.process.pid})"
        self.owes = False
        self.stopped: float | None = None

    def look(self) -> None:
        """Notes whether it is stopped."""
        with contextlib.suppress(OSError):  # it is gone, which is noticed elsewhere
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            self.stopped = (self.stopped or time.monotonic()) if state == "T" else None

    def end(self) -> None:
        """Waits for the process, which has ended or was killed."""
        self.process.wait()
        self.connection.close()
        os.close(self.pidfd)
