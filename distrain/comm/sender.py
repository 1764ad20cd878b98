"""The thread that makes the calls of a channel while the training thread computes."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

Call = tuple[Callable[..., None], tuple[Any, ...]]


class Sender:
    """Makes calls in a thread of its own, in the order in which they come.

    Guarantees: the calls never overlap; after one that raised, the later ones are left out until `wait`, which raises
    the same error; the thread ends with its owner, after the calls that were sent before.

    Args:
        owner: whose end is the end of the thread.
    """

    def __init__(self, owner: object) -> None:
        self._calls: queue.SimpleQueue[Call | threading.Event | None] = queue.SimpleQueue()
        self._errors: list[BaseException] = []
        self._is_settled = True  # nothing was sent since the last `wait`
        self._thread = threading.Thread(
            target=_work, args=(self._calls, self._errors), name="distrain gradients", daemon=True
        )
        self._thread.start()
        weakref.finalize(owner, _end, self._calls, self._thread)

    def send(self, function: Callable[..., None], *args: Any) -> None:
        """Makes a call, soon."""
        self._is_settled = False
        self._calls.put((function, args))

    def settle(self) -> None:
        """`wait`, if there is anything to wait for; not in the thread itself, whose calls are in order anyhow."""
        if not self._is_settled and threading.current_thread() is not self._thread:
            self.wait()

    def wait(self) -> None:
        """Returns when all calls have been made; raises what one of them has raised."""
        done = threading.Event()
        self._calls.put(done)
        done.wait()
        self._is_settled = True
        if self._errors:
            error = self._errors[0]
            self._errors.clear()
            raise error


def _work(calls: queue.SimpleQueue[Call | threading.Event | None], errors: list[BaseException]) -> None:
    while (call := calls.get()) is not None:
        if isinstance(call, threading.Event):
            call.set()
        elif not errors:
            function, args = call
            try:
                function(*args)
            except BaseException as error:  # raised where the results are waited for
                errors.append(error)
            del function, args
        del call  # must not keep the owner alive while waiting


def _end(calls: queue.SimpleQueue[Call | threading.Event | None], thread: threading.Thread) -> None:
    """Ends the thread. At the end of the program too: MPI must not end in a call."""
    calls.put(None)
    if threading.current_thread() is not thread:  # which may have let go of the owner last
        thread.join()
