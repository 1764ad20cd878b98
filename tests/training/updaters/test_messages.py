"""Messages arrive as they were sent; whatever else arrives is refused, and nothing in it is run."""

import os
import pickle
import socket
from multiprocessing.connection import Connection

import numpy as np
import pytest

import distrain
from distrain import wire
from distrain.errors import WireError
from distrain.training.updaters.messages import (
    Done,
    Failed,
    Load,
    Meet,
    Save,
    Saved,
    Step,
    Stop,
    Sum,
    Summed,
    Tell,
    receive,
    send,
    switches,
    use_switches,
)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as one, Connection(theirs.detach()) as other:
        yield one, other


@pytest.mark.parametrize(
    "message",
    [
        Step(3, {"train": True, "dtype": "<f4"}, None),
        Step(4, {}, 128.0),
        Sum(0.25),
        Summed(),
        Meet(),
        Tell([None, ["", "0000:01:00.0"], b"number"]),
        Save(),
        Load(b"PK"),
        Stop(),
        Saved(bytes(1000)),
        Failed("ValueError: no", "Traceback …", True),
    ],
    ids=repr,
)
def test_arrives_as_it_was_sent(ends, message):
    send(ends[0], message)
    found = receive(ends[1])
    assert type(found) is type(message)
    assert found == message


def test_reports_can_be_merged(ends):
    send(ends[0], Done(5, {"main/loss": (1.0, 2.0, 5.0)}))
    found = receive(ends[1])
    assert isinstance(found, Done)
    assert [*found.reports["main/loss"]] == [1.0, 2.0, 5.0]


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_what_is_no_message_is_refused(ends, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Harmful()), b"", b"\xc1", wire.pack([]), wire.pack("Stop"), wire.pack([1, 2])):
        ends[0].send_bytes(content)
        with pytest.raises(WireError):
            receive(ends[1])
    for fields in (["Stop", 1], ["Step"], ["Start"], ["system", "rm"]):
        ends[0].send_bytes(wire.pack(fields))
        with pytest.raises(WireError, match="is no message of a device's process"):
            receive(ends[1])
    assert not list(tmp_path.iterdir())


def test_an_announced_length_is_not_allocated(ends):
    os.write(ends[0].fileno(), b"\x7f\xff\xff\xff")  # 2 GiB
    with pytest.raises(WireError, match="more than"):
        receive(ends[1])


def test_the_end_of_the_other_process_is_told_apart(ends):
    ends[0].close()
    with pytest.raises(EOFError):
        receive(ends[1])


def test_switches_travel():
    with distrain.using_config("dtype", np.float16), distrain.using_config("train", False):
        given = switches()
    before = switches()
    try:
        use_switches(given)
        assert distrain.global_config.dtype is np.float16
        assert distrain.global_config.train is False
    finally:
        use_switches(before)
