from __future__ import annotations

import gc
import threading

import pytest

from distrain.comm.sender import Sender


class Owner:
    pass


def test_calls_are_made_in_order_in_another_thread() -> None:
    owner = Owner()
    sender = Sender(owner)
    calls: list[tuple[int, bool]] = []
    for _ in range(3):
        for i in range(5):
            sender.send(lambda i: calls.append((i, threading.current_thread() is threading.main_thread())), i)
        sender.wait()
    assert calls == [(i, False) for i in range(5)] * 3


def test_an_error_is_raised_by_wait_and_stops_what_follows() -> None:
    owner = Owner()
    sender = Sender(owner)
    calls: list[int] = []
    sender.send(calls.append, 1)
    sender.send(lambda: 1 // 0)
    sender.send(calls.append, 2)
    with pytest.raises(ZeroDivisionError):
        sender.wait()
    assert calls == [1]
    sender.send(calls.append, 3)
    sender.wait()
    assert calls == [1, 3]


def test_the_thread_ends_with_its_owner() -> None:
    before = set(threading.enumerate())
    owner = Owner()
    sender = Sender(owner)
    sender.wait()
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "distrain gradients"
    del owner
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_settling_waits_for_what_was_sent_but_not_in_the_thread_itself() -> None:
    owner = Owner()
    sender = Sender(owner)
    sender.settle()
    calls: list[int] = []
    arrived, go_on = threading.Event(), threading.Event()

    def call() -> None:
        arrived.set()
        assert go_on.wait(10)
        sender.settle()
        calls.append(1)

    sender.send(call)
    assert arrived.wait(10)
    threading.Timer(0.1, go_on.set).start()
    sender.settle()
    assert calls == [1]


def test_what_was_sent_is_done_before_the_thread_ends() -> None:
    owner = Owner()
    calls: list[int] = []
    go_on = threading.Event()
    sender = Sender(owner)
    sender.send(go_on.wait, 10)
    sender.send(calls.append, 1)
    threading.Timer(0.1, go_on.set).start()
    del owner
    gc.collect()
    assert calls == [1]
