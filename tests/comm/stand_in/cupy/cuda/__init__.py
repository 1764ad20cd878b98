from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from . import nccl as nccl

_WAIT_S = 60.0


class CUDARuntimeError(RuntimeError):
    pass


runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: int(os.environ.get("STAND_IN_GPUS", "1")),
    deviceGetPCIBusId=lambda number: os.environ.get("STAND_IN_BUS") or f"0000:{os.getpid():x}:00.{number}",
)


class Device:
    _thread = threading.local()

    def __init__(self, number: int = 0) -> None:
        self.id = number
        self._before: list[int] = []

    @classmethod
    def current(cls) -> int:
        return getattr(cls._thread, "number", 0)

    def use(self) -> None:
        self._thread.number = self.id

    def __enter__(self) -> Device:
        self._before.append(self.current())
        self.use()
        return self

    def __exit__(self, *args: Any) -> None:
        self._thread.number = self._before.pop()


class MemoryPointer:
    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


class Event:
    def __init__(self) -> None:
        self._happened = threading.Event()

    @property
    def done(self) -> bool:
        return self._happened.is_set()

    def synchronize(self) -> None:
        assert self._happened.wait(_WAIT_S)


class Stream:
    null: Stream
    by_ptr: dict[int, Stream] = {}

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.ptr = len(self.by_ptr)
        self.by_ptr[self.ptr] = self
        self._tasks: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._tasks.get()()

    def put(self, task: Callable[[], Any]) -> None:
        self._tasks.put(task)

    def record(self, event: Any = None) -> Event:
        event = event or Event()
        self.put(event._happened.set)
        return event

    def wait_event(self, event: Event) -> None:
        self.put(event.synchronize)

    def synchronize(self) -> None:
        self.record().synchronize()


Stream.null = Stream()


def get_current_stream() -> Stream:
    return Stream.null


def alloc_pinned_memory(size: int) -> bytearray:
    return bytearray(size)
