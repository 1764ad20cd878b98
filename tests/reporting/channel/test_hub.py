"""Rank 0's hub and the members of other ranks, over real sockets in one process."""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import threading
import time
import warnings
from contextlib import contextmanager

import pytest
import zmq

from distrain import wire
from distrain.errors import ArgumentError
from distrain.reporting.channel import Hub, Member, MergingStream, SendingStream, address
from distrain.reporting.channel.messages import Done, Entry, Failed
from distrain.reporting.merged import Merged
from distrain.reporting.rank_states import RankStates, StatesFile

LONG_S = 20.0


def eventually(condition, seconds=LONG_S):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Job:
    """A hub and its members."""

    def __init__(self, folder, size=3):
        self.states = RankStates([("host", 100 + rank) for rank in range(size)])
        self.path = folder / "ranks.json"
        door, self.announced = address.listen(["host"] * size, True)
        self.bound = door.bound
        self.hub = Hub(door, self.announced, self.states, StatesFile(self.states, str(self.path), at_once=True))
        self.members = {rank: Member(self.announced, rank, "host") for rank in range(1, size)}

    def close(self):
        for member in self.members.values():
            member.close()
        self.hub.close()


@pytest.fixture(params=["local", "tcp"])
def job(request, tmp_path, monkeypatch):
    if request.param == "tcp":
        monkeypatch.setenv(address.VARIABLE, "tcp://127.0.0.1:0")
    before = open_files()
    job = Job(tmp_path)
    yield job
    job.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "distrain side channel"]
    eventually(lambda: open_files() <= before, 5.0)


@pytest.fixture
def tcp_job(tmp_path, monkeypatch):
    monkeypatch.setenv(address.VARIABLE, "tcp://127.0.0.1:0")
    job = Job(tmp_path)
    yield job
    job.close()


@contextmanager
def soon(function, *args):
    """Calls a function in a moment, in a thread, which has ended at the end of the block."""
    timer = threading.Timer(0.2, function, args)
    timer.start()
    yield
    timer.join(LONG_S)


def open_files():
    return len(os.listdir("/proc/self/fd"))


def streams(job, wait_s=LONG_S, number=1):
    size = len(job.states.all())
    merging = MergingStream(job.hub, number, size)
    return merging, {rank: SendingStream(member, number, size, wait_s) for rank, member in job.members.items()}


def sums(value, weight=1.0):
    return {"a": (value * weight, value * value * weight, weight)}


def test_an_entry_is_made_of_all_sums_and_comes_back(job):
    merging, sending = streams(job)
    sending[2].send(5, sums(3.0, 0.5))
    sending[1].send(5, sums(2.0, 0.25))
    merged = merging.merge(5, sums(1.0, 0.25), 7.5, LONG_S)
    assert merged == Merged(5, 7.5, {"a": 2.25})
    for stream in sending.values():
        assert stream.receive(5, wait=True) == {5: merged}


def test_rank_0_waits_for_sums_that_are_on_their_way(job):
    merging, sending = streams(job)
    sending[1].send(5, sums(2.0))
    with soon(sending[2].send, 5, sums(2.0)):
        assert merging.merge(5, sums(2.0), 0.0, LONG_S).missing_ranks == []


def test_an_entry_that_is_not_final_stays_until_it_is_complete(job):
    merging, sending = streams(job)
    sending[1].send(5, sums(2.0))
    assert merging.merge(5, sums(2.0), 0.0, 0.05, is_final=False) is None
    assert merging.merge(5, sums(2.0), 0.0, 0.0, is_final=False) is None
    sending[2].send(5, sums(2.0))
    assert merging.merge(5, sums(2.0), 0.0, LONG_S, is_final=False) == Merged(5, 0.0, {"a": 2.0})


def test_rank_0_waits_for_nobody_when_it_has_failed(job):
    merging, _ = streams(job)
    job.hub.is_leaving = True
    with pytest.warns(UserWarning, match="without the sums of rank 1, 2"):
        assert merging.merge(5, sums(2.0), 0.0, LONG_S).missing_ranks == [1, 2]


def test_a_rank_that_waits_in_vain_does_not_wait_again_before_something_has_come(job):
    _, sending = streams(job, wait_s=0.2)
    assert sending[1].receive(5, wait=True) == {}
    sending[1]._wait_s = LONG_S
    assert sending[1].receive(6, wait=True) == {}
    job.hub.send(Entry(1, Merged(6, 0.0, {})))
    eventually(lambda: sending[1].receive(6, wait=False))
    with soon(job.hub.send, Entry(1, Merged(7, 0.0, {}))):
        assert 7 in sending[1].receive(7, wait=True)


def test_a_rank_that_is_late_is_named_and_not_waited_for_again_until_it_is_heard(job):
    merging, sending = streams(job, wait_s=0.5)
    sending[1].send(1, sums(1.0))
    with pytest.warns(UserWarning, match="iteration 1 in the log is without the sums of rank 2"):
        merged = merging.merge(1, sums(3.0), 0.0, 0.5)
    assert (merged.means, merged.missing_ranks) == ({"a": 2.0}, [2])
    merging = MergingStream(job.hub, 1, 3)
    sending[1].send(2, sums(1.0))
    start = time.monotonic()
    with pytest.warns(UserWarning, match="iteration 2"):
        assert merging.merge(2, sums(3.0), 0.0, LONG_S).missing_ranks == [2]
    assert time.monotonic() - start < LONG_S / 2
    sending[2].send(1, sums(100.0))
    sending[2].send(2, sums(100.0))
    eventually(lambda: job.states.counters.late == 2)
    with soon(sending[1].send, 3, sums(1.0)), soon(sending[2].send, 3, sums(1.0)):
        assert merging.merge(3, sums(1.0), 0.0, LONG_S) == Merged(3, 0.0, {"a": 1.0}), "nothing late is mixed in"


def test_ranks_that_have_ended_are_not_waited_for(job):
    merging, _ = streams(job)
    job.members[1].done(4)
    job.members[2].fail(3, "ValueError: no")
    eventually(lambda: [state.state for state in job.states.all()] == ["running", "done", "failed"])
    with pytest.warns(UserWarning, match="without the sums of rank 1, 2"):
        assert merging.merge(5, sums(1.0), 0.0, LONG_S).missing_ranks == [1, 2]
    eventually(lambda: json.loads(job.path.read_text())["ranks"][2]["state"] == "failed")
    failed = json.loads(job.path.read_text())["ranks"][2]
    assert (failed["failure"], failed["iteration"]) == ("ValueError: no", 3)
    job.hub.wait_for_ends(LONG_S)


def test_a_failure_ends_a_wait(job):
    merging, sending = streams(job)
    sending[1].send(5, sums(2.0))
    with soon(job.members[2].fail, 3, "KeyError: 'x'"), pytest.warns(UserWarning, match="without the sums of rank 2"):
        assert merging.merge(5, sums(1.0), 0.0, LONG_S).missing_ranks == [2]


def test_missing_keys_are_named(job):
    merging, sending = streams(job)
    sending[1].send(5, sums(2.0) | {"b": (1.0, 1.0, 1.0)})
    sending[2].send(5, sums(2.0))
    with pytest.warns(UserWarning, match="iteration 5 in the log is without 'b' of rank 0, 2"):
        merged = merging.merge(5, sums(2.0), 0.0, LONG_S)
    assert merged.missing_keys == {"b": [0, 2]}
    assert sending[2].receive(5, wait=True) == {5: merged}


def test_logs_do_not_mix(job):
    first, first_sending = streams(job, number=1)
    second, second_sending = streams(job, number=2)
    for rank in (1, 2):
        second_sending[rank].send(5, sums(20.0))
        first_sending[rank].send(5, sums(10.0))
    assert first.merge(5, sums(10.0), 0.0, LONG_S).means == {"a": 10.0}
    assert second.merge(5, sums(20.0), 0.0, LONG_S).means == {"a": 20.0}
    assert second_sending[1].receive(5, wait=True)[5].means == {"a": 20.0}
    assert first_sending[1].receive(5, wait=True)[5].means == {"a": 10.0}


def test_what_rank_0_never_takes_is_bounded(job):
    _, sending = streams(job)
    for iteration in range(1100):
        sending[1].send(iteration, sums(1.0))
        eventually(lambda: not job.members[1]._waiting or job.members[1]._flush())
    eventually(lambda: job.states.counters.late == 1100 - 1024)
    assert len(job.hub._parts) == 1024


def test_heartbeats(job):
    job.members[2].beat(7, "update", [0.1, 0.2, 0.3, 0.4, 0.5], 9.0)
    eventually(lambda: job.states.all()[2].iteration == 7)
    state = job.states.all()[2]
    assert (state.phase, state.time["exchange"]) == ("update", 0.4)
    eventually(lambda: json.loads(job.path.read_text())["ranks"][2]["iteration"] == 7)


def test_the_file_is_written_though_the_training_thread_does_nothing(job):
    eventually(job.path.exists)
    first = json.loads(job.path.read_text())["time"]
    eventually(lambda: json.loads(job.path.read_text())["time"] > first)


def test_a_rank_without_rank_0_goes_on_drops_the_oldest_and_says_so_once(job, monkeypatch):
    _, sending = streams(job, wait_s=0.2)
    member, start = job.members[1], time.monotonic()
    job.hub.close()
    eventually(lambda: not member._socket.poll(0, zmq.POLLOUT))
    for iteration in range(200):
        sending[1].send(iteration, sums(1.0))
    assert time.monotonic() - start < LONG_S
    assert member.dropped == 200 - 64
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    with pytest.warns(UserWarning, match="rank 1 has not been able to send anything to rank 0 for 60 s"):
        sending[1].send(200, sums(1.0))
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sending[1].send(201, sums(1.0))
    assert sending[1].receive(201, wait=True) == {}
    with pytest.warns(UserWarning, match="rank 0 has not sent the entry of iteration 201"):
        assert sending[1].alone(201, sums(3.0), 1.5) == Merged(201, 1.5, {"a": 3.0}, [0, 2])


def test_a_closed_hub_waits_for_nobody(job):
    merging, _ = streams(job)
    job.hub.close()
    with pytest.warns(UserWarning, match="without the sums of rank 1, 2"):
        assert merging.merge(5, sums(1.0), 0.0, LONG_S).missing_ranks == [1, 2]
    job.hub.send(Entry(1, Merged(5, 0.0, {})))
    job.hub.close()


def test_whoever_has_failed_waits_for_nothing(job):
    _, sending = streams(job)
    job.members[1].fail(3, "ValueError: no")
    assert sending[1].receive(5, wait=True) == {}
    job.members[1].close()
    job.members[1].close()
    job.members[1].send(Done(5))
    job.members[1].send(Failed(5, "after the end"))


def test_sums_that_cannot_be_sent_are_left_out(job):
    _, sending = streams(job)
    with pytest.warns(UserWarning, match="side channel of rank 1 cannot send this to rank 0"):
        sending[1].send(1, {"\udc80": (1.0, 1.0, 1.0)})
    assert job.members[1].dropped == 1
    job.members[1].beat(1, "update", [], 0.0)
    eventually(lambda: job.states.counters.dropped == 1)
    eventually(lambda: any("of rank 1 has dropped messages" in note for note in job.hub.notes))


def test_a_stranger_on_this_host_is_not_listened_to(tmp_path):
    job = Job(tmp_path)
    context = wire.new_context()
    try:
        strangers = [wire.spoke(context, identity) for identity in (b"rank 1", b"r" + bytes(24))]
        for spoke in strangers:
            spoke.connect(job.bound)
            spoke.send(wire.pack(["failed", 1, "I am rank 1"]))
        eventually(lambda: job.states.counters.malformed == 2)
        assert [state.state for state in job.states.all()] == ["running"] * 3
        assert "who is no rank of this training" in job.hub.notes[0]
    finally:
        context.destroy(linger=0)
        job.close()


def test_garbage_of_a_rank_is_left_out(job):
    member, rng = job.members[1], random.Random(5)
    garbage = [b"", b"\xc1", wire.pack(["beat", -1]), *(rng.randbytes(rng.randrange(300)) for _ in range(100))]
    for data in garbage:
        member._socket.send(data)
    member._socket.send_multipart([wire.pack(["done", 1])] * 2)
    eventually(lambda: job.states.counters.malformed == len(garbage) + 1)
    member.beat(9, "update", [], 0.0)
    eventually(lambda: job.states.all()[1].iteration == 9)
    assert len([note for note in job.hub.notes if "left out a message" in note]) == 1


def test_a_message_that_is_too_long_ends_the_connection_and_the_rank_comes_back(job):
    member = job.members[1]
    member._socket.send(bytes(5 << 20))
    eventually(lambda: member.beat(9, "update", [], 0.0) or job.states.all()[1].iteration == 9)
    assert job.states.all()[1].state == "running"


# TCP


def port_of(job):
    return int(job.bound.rpartition(":")[2])


def test_a_port_scan_and_garbage_are_refused_and_counted(tcp_job):
    rng, job = random.Random(5), tcp_job
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n = 50
    for i in range(n):
        with socket.create_connection(("127.0.0.1", port_of(job)), 5) as stranger:
            if i % 2:
                stranger.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f" + rng.randbytes(rng.randrange(1, 5000)))
            elif i % 4:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 50)
    eventually(lambda: job.states.counters.refused >= n)
    merging, sending = streams(job)
    for rank in (1, 2):
        sending[rank].send(1, sums(1.0))
    assert merging.merge(1, sums(1.0), 0.0, LONG_S) == Merged(1, 0.0, {"a": 1.0})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10, "KiB"
    assert len([note for note in job.hub.notes if "has refused a connection" in note]) == 1


def test_a_wrong_key_is_refused(tcp_job):
    job, context = tcp_job, wire.new_context()
    try:
        others = wire.new_keys()
        rogue = wire.spoke(context, job.announced.identity(1))
        wire.connect_by_tcp(rogue, job.bound, others.secret, others.public, job.announced.server)
        eventually(lambda: job.states.counters.refused)
        assert any("its key is not on the list" in note for note in job.hub.notes)
        assert not rogue.poll(100, zmq.POLLOUT)
    finally:
        context.destroy(linger=0)


def test_the_keys_and_the_token_are_not_shown(tcp_job):
    shown = repr(tcp_job.announced)
    assert "secret" not in shown
    assert "token" not in shown


def test_a_bad_address_is_refused(monkeypatch):
    for bad in ("ipc://x", "tcp://127.0.0.1:port", "tcp://nowhere.invalid:0"):
        monkeypatch.setenv(address.VARIABLE, bad)
        with pytest.raises(ArgumentError, match="tcp://host:port|cannot listen"):
            address.listen(["host", "host"], True)


def test_where_the_others_connect(monkeypatch):
    monkeypatch.setattr(address, "_address_towards", lambda host: {"b": "10.0.0.1"}.get(host))
    monkeypatch.setattr(address, "_first_address", lambda: "10.0.0.9")
    endpoints = address._endpoints
    assert endpoints("tcp://0.0.0.0:5000", ["a/1", "a/1", "b/2"]) == {
        "": "tcp://10.0.0.1:5000", "a/1": "tcp://127.0.0.1:5000",
    }  # fmt: skip
    assert endpoints("tcp://0.0.0.0:5000", ["a/1", "c/2"])[""] == "tcp://10.0.0.9:5000"
    assert endpoints("tcp://10.1.1.1:5000", ["a/1", "b/2"]) == {"": "tcp://10.1.1.1:5000"}


def test_room_for_many_ranks():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
        address._make_room(50)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600
        address._make_room(200)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 712
        if hard != resource.RLIM_INFINITY:
            with pytest.raises(ArgumentError, match="may open .* files only"):
                address._make_room(hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_own_addresses():
    assert address._address_towards("127.0.0.1") is None
    assert address._address_towards("nowhere.invalid") is None
    assert not (address._first_address() or "").startswith("127.")
