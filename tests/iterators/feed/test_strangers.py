"""Whoever finds the socket of a running feed can say what he likes: it is refused and counted, and changes nothing."""

import ctypes
import itertools
import os
import random
import re
import resource
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from distrain import wire
from distrain.errors import FeedError
from distrain.iterators import MultiprocessIterator, SerialIterator
from distrain.iterators.feed import protocol
from distrain.iterators.feed.protocol import Broken, Cancelled, Done, Failed, Hello

N = 64
MESSAGES = 3000
LIMIT_S = 60


class Data:
    def __len__(self):
        return N

    def __getitem__(self, i):
        time.sleep(0.0005)
        return np.full(50, i, np.float32), i


def addresses():
    """Local sockets of this process's feeds, as the kernel lists them."""
    pattern = rf"@(distrain-{os.getpid()}-[0-9a-f]{{32}})\s*$"
    return set(re.findall(pattern, Path("/proc/net/unix").read_text(), re.MULTILINE))


class Running:
    """A running iterator, its address, and a serial one beside it."""

    def __init__(self):
        before = addresses()
        self.iterator = MultiprocessIterator(Data(), 8, seed=3, n_processes=2)
        (self.address,) = addresses() - before
        self.serial = SerialIterator(Data(), 8, seed=3)
        self.context = wire.new_context()
        self.sockets = []
        self.check()

    def check(self, minibatches=1):
        """The stream goes on as it would have."""
        for _ in range(minibatches):
            found, expected = self.iterator.next(), self.serial.next()
            assert found.columns[0].tobytes() == np.stack([x for x, _ in expected]).tobytes()
            assert found.columns[1].tolist() == [t for _, t in expected]

    def line(self, identity):
        self.sockets.append(wire.spoke(self.context, identity))
        self.sockets[-1].connect(f"ipc://@{self.address}")
        return self.sockets[-1]

    def await_refusals(self, count):
        end = time.monotonic() + LIMIT_S
        while self.iterator.stats()["refused"] < count:
            assert time.monotonic() < end, f"{self.iterator.stats()['refused']} of {count} refused"
            self.check()
        assert self.iterator.stats()["refused"] == count
        assert self.iterator.stats()["respawns"] == 0

    @property
    def feed(self):
        return self.iterator._feed

    def close(self):
        self.context.destroy(linger=0)
        self.iterator.finalize()
        assert self.address not in addresses()


@pytest.fixture
def running():
    running = Running()
    yield running
    running.close()


def good_replies():
    """What a feeder would say, with the tickets of all work that there could be."""
    replies = [Hello(protocol.VERSION, bytes(16), 0, os.getpid(), "here", N), Broken("no")]
    for ticket in range(1, 60):
        replies.append(Done(ticket, "columns", 0.0, 0.0, 0, b"", 0, []))
        replies.append(Done(ticket, "examples", 0.0, 0.0, 0, b"", 0, [], [bytes(8), b"\xc0"]))
        replies.append(Failed(ticket, 0, 0, 0, "ValueError", "no", [], "", []))
        replies.append(Cancelled(ticket))
    return [protocol.pack_reply(reply) for reply in replies]


def damaged(frames, rng):
    frames = [bytearray(frame) for frame in frames]
    for _ in range(rng.randrange(3)):
        frame = rng.choice(frames)
        kind = rng.randrange(4)
        if kind == 0 and frame:
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del frame[rng.randint(0, len(frame)) :]
        elif kind == 2:
            frame[:] = rng.randbytes(rng.randrange(100))
        else:
            frames.insert(rng.randint(0, len(frames)), bytearray(rng.randbytes(rng.randrange(30))))
    return [bytes(frame) for frame in frames]


def test_garbage_and_replayed_messages_of_strangers(running):
    rng = random.Random(5)
    good = good_replies()
    lines = [running.line(b"stranger %d" % i) for i in range(3)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(MESSAGES):
        rng.choice(lines).send_multipart(damaged(rng.choice(good), rng))
        if i % 100 == 0:
            running.check()
    running.await_refusals(MESSAGES)
    running.check(2 * N // 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 50 << 10  # KiB
    assert len(running.iterator.stats()["refusals"]) == 20


def test_a_wrong_token(running):
    line = running.line(b"friend")
    for token in (b"", bytes(16), os.urandom(16), os.urandom(1 << 20)):
        line.send_multipart(protocol.pack_reply(Hello(protocol.VERSION, token, 0, os.getpid(), "here", N)))
    running.await_refusals(4)
    assert "is not one of this run's" in running.iterator.stats()["refusals"][-1]
    assert not line.poll(100)


def test_the_right_token_is_of_no_use_to_a_stranger(running):
    token = running.feed._supervisor._token
    line = running.line(b"insider")
    line.send_multipart(protocol.pack_reply(Hello(protocol.VERSION, token, 0, os.getpid(), "here", N)))
    running.await_refusals(1)
    assert not line.poll(100)


def test_the_name_of_a_feeder_is_taken(running):
    end = time.monotonic() + LIMIT_S
    while len(identities := list(running.feed._window.members)) < 2:  # the second one may still be starting
        assert time.monotonic() < end
        running.check()
    for identity in identities:
        line = running.line(identity)
        for frames in good_replies():
            line.send_multipart(frames)
    time.sleep(0.3)
    running.check(2 * N // 8)
    assert running.iterator.stats()["refused"] == 0
    assert running.iterator.stats()["respawns"] == 0


GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
BYTES = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": random.Random(1).randbytes(5000),
    "a greeting": GREETING,
    "a greeting and noise": GREETING + random.Random(2).randbytes(5000),
    "a greeting and a huge command": GREETING + b"\x06\xff\xff\xff\xff\xff\xff\xff\xff",
    "a greeting and a huge frame": GREETING
    + b"\x04\x19\x05READY"
    + b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff"
    + bytes(999),
    "zeros": bytes(1 << 20),
    "empty messages in an old version": b"\x01\x00" * 50,
}


def test_bytes_that_are_no_zeromq(running):
    connections = []
    for data in BYTES.values():
        for _ in range(3):
            line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            line.settimeout(10)
            line.connect(f"\0{running.address}")
            connections.append(line)
            try:
                line.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                continue  # thrown out already
        running.check()
    running.check(N // 8)
    for line in connections:
        line.close()
    running.check(N // 8)
    assert running.iterator.stats()["respawns"] == 0


def test_another_user_is_not_let_in(running):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    pid = os.fork()
    if not pid:  # no Python but what is loaded already
        try:
            ctypes.CDLL(None).setresuid(12345, 12345, 12345)
            line = wire.spoke(wire.new_context(), b"another user")
            line.connect(f"ipc://@{running.address}")
            for frames in good_replies():
                line.send_multipart(frames)
            line.poll(700)
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    running.check(N // 8)
    assert running.iterator.stats()["refused"] == 0


def test_a_feeder_that_talks_nonsense_is_replaced(running, monkeypatch):
    """Its memory has gone bad, say; here its messages are put into the mail as the hub would have got them."""
    feed = running.feed
    member = next(iter(feed._window.members))
    feeder = feed._supervisor.feeder_of(member)
    real = wire.waiting_messages
    with monkeypatch.context() as patch:
        patch.setattr(wire, "waiting_messages", lambda hub: itertools.chain([(member, [b"\xc1"])], real(hub)))
        feed._read_mail()
    end = time.monotonic() + LIMIT_S
    while not running.iterator.stats()["respawns"]:
        assert time.monotonic() < end
        running.check()
    running.check(N // 8)
    assert running.iterator.stats()["deaths"] == [f"feeder {feeder.number} (pid {feeder.pid}): SIGKILL"]
    assert running.iterator.stats()["refused"] == 1


class Corrupting:
    """Spoils the messages of the process that reads it."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        protocol.pack_reply = lambda reply: [b"\xc1"]
        return i


def test_feeders_that_talk_nothing_but_nonsense_are_not_replaced_for_ever():
    with MultiprocessIterator(Corrupting(), 8, n_processes=2) as iterator:
        with pytest.raises(FeedError, match="20 messages of feeders in a row were refused.*malformed"):
            iterator.next()
        assert iterator.stats()["refused"] >= 20
