"""Every message comes back as it was; everything else is refused, whatever it is, and takes no memory."""

import math
import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from distrain import wire
from distrain.errors import WireError
from distrain.iterators.feed import layout, parcels
from distrain.iterators.feed.parcels import NO_REGION, Writer
from distrain.iterators.feed.protocol import (
    FORMS,
    Broken,
    Cancelled,
    Done,
    Failed,
    Hello,
    Work,
    pack_reply,
    pack_work,
    unpack_order,
    unpack_reply,
)

LAYOUT = layout.layout_of((np.zeros((2, 3), np.float32), 1)).packed
WORK = Work(7, 100, 10, 13, 65536, 4096, LAYOUT, [(2, [5, 9]), (3, [2**40])])
SKIPPED = [(0, 3, 4, "OSError: disk"), (0, 9, 10, "ValueError: no")]
DONE = Done(7, "columns", 0.25, 0.125, 42, b"", 0, SKIPPED)
FAILED = Failed(7, 12, 3, 99, "KeyError", "'x'", ["one", "two"], "Traceback …", ["x", 1, None, 2.5, True])
HELLO = Hello(1, b"t" * 16, 3, 4242, "node", 60000)


def payload_of(*examples):
    writer = Writer(NO_REGION)
    return parcels.payload(writer, [writer.packed(example) for example in examples]), writer.spilled


FRAMES, SPILLED = payload_of([np.arange(10), "x"], (1, {"a": np.zeros(3, np.float32)}))
REPLIES = [
    HELLO,
    DONE,
    *[replace(DONE, form=form, payload=FRAMES, layout=LAYOUT, spilled=SPILLED) for form in FORMS[1:]],
    replace(DONE, seconds=0.0, slowest=0.0, skipped=[(0, i, i + 1, "error") for i in range(1500)]),
    FAILED,
    replace(FAILED, arguments=None, notes=[], traceback=""),
    Cancelled(2**63),
    Broken("it does not arrive"),
]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_replies_come_back(reply):
    found = unpack_reply([bytes(frame) for frame in pack_reply(reply)])
    if isinstance(reply, Done):
        assert [bytes(frame) for frame in found.payload] == [bytes(frame) for frame in reply.payload]
        found, reply = replace(found, payload=()), replace(reply, payload=())
    assert found == reply


@pytest.mark.parametrize("work", [WORK, replace(WORK, start=0, stop=1, nbytes=0, layout=b"", runs=[(0, [0])])])
def test_work_comes_back(work):
    assert unpack_order(pack_work(work)) == ("work", work)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (["cancel", 5], ("cancel", 5)),
        (["welcome", 7, "skip"], ("welcome", (7, "skip"))),
        (["ping"], ("ping", None)),
        (["stop"], ("stop", None)),
    ],
)
def test_orders(message, expected):
    assert unpack_order(wire.pack(message)) == expected


TEXT = 1 << 16


def test_texts_are_cut_at_their_beginning():
    long = "x" * 10 * TEXT + "the end"
    reply = Failed(1, 0, 0, 0, long, long, [long] * 200, long, [long])
    found = unpack_reply(pack_reply(reply))
    assert found.message.endswith("the end")
    assert {len(text) for text in (found.error, found.message, found.traceback, *found.notes)} == {TEXT}
    assert len(found.notes) == 100
    assert found.arguments is None
    assert unpack_reply(pack_reply(Broken(long))).text == found.message
    (skipped,) = unpack_reply(pack_reply(replace(DONE, skipped=[(0, 1, 2, long)]))).skipped
    assert skipped[:3] == (0, 1, 2)
    assert len(skipped[3]) == 1000


@pytest.mark.parametrize("arguments", [[2**64], ["\udc80"], [object()], [b"x" * 70_000]])
def test_arguments_that_cannot_be_sent_stay_behind(arguments):
    assert unpack_reply(pack_reply(replace(FAILED, arguments=arguments))) == replace(FAILED, arguments=None)


def test_texts_that_are_no_unicode_arrive():
    odd = "name \udc80"
    reply = Failed(1, 0, 0, 0, "OSError", odd, [odd], odd, None)
    found = unpack_reply(pack_reply(reply))
    assert {found.message, found.traceback, *found.notes} == {"name \\udc80"}
    assert unpack_reply(pack_reply(Broken(odd))).text == "name \\udc80"
    assert unpack_reply(pack_reply(replace(DONE, skipped=[(0, 1, 2, odd)]))).skipped == [(0, 1, 2, "name \\udc80")]


DONE_FIELDS = ["done", 7, "columns", 0.5, 0.5, 1, b"", 0, []]
NO_REPLIES = {
    "no frames": [],
    "no message": [b""],
    "no list": [wire.pack({"done": 1})],
    "empty": [wire.pack([])],
    "no word": [wire.pack([1, 2])],
    "an order": [pack_work(WORK)],
    "unknown": [wire.pack(["welcome", 1])],
    "a huge word": [wire.pack(["x" * 10_000])],
    "hello with a frame": [*pack_reply(HELLO), b""],
    "failed with a frame": [*pack_reply(FAILED), b""],
    "hello, a bool": [wire.pack(["hello", True, b"t", 1, 1, "h", 1])],
    "hello, too short": [wire.pack(["hello", 1, b"t", 1, 1, "h"])],
    "hello, text for bytes": [wire.pack(["hello", 1, "t", 1, 1, "h", 1])],
    "columns with a payload": [wire.pack(DONE_FIELDS), b"", b""],
    "examples without": [wire.pack([*DONE_FIELDS[:2], "examples", *DONE_FIELDS[3:]])],
    "examples with half": [wire.pack([*DONE_FIELDS[:2], "examples", *DONE_FIELDS[3:]]), b""],
    "unknown form": [wire.pack([*DONE_FIELDS[:2], "pickle", *DONE_FIELDS[3:]])],
    "an int of seconds": [wire.pack([*DONE_FIELDS[:3], 1, *DONE_FIELDS[4:]])],
    "more spilled than sent": [wire.pack([*DONE_FIELDS[:7], 1, []])],
    "less than nothing spilled": [wire.pack([*DONE_FIELDS[:7], -1, []])],
    "skipped, no lists": [wire.pack([*DONE_FIELDS[:8], [1]])],
    "skipped, no samples": [wire.pack([*DONE_FIELDS[:8], [[1]]])],
    "skipped, no text": [wire.pack([*DONE_FIELDS[:8], [[[1, 2, 3, 4]]]])],
    "skipped, a float": [wire.pack([*DONE_FIELDS[:8], [[[1, 2, 3.0, "x"]]]])],
    "failed, notes of numbers": [wire.pack(["failed", 1, 0, 0, 0, "E", "m", [1], "t", None])],
    "failed, arguments of text": [wire.pack(["failed", 1, 0, 0, 0, "E", "m", [], "t", "x"])],
    "cancelled, no number": [wire.pack(["cancelled", None])],
    "broken, bytes": [wire.pack(["broken", b"x"])],
}


@pytest.mark.parametrize("frames", NO_REPLIES.values(), ids=NO_REPLIES)
def test_what_is_no_reply(frames):
    with pytest.raises(WireError) as caught:
        unpack_reply(frames)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -1.0, 1e300])
@pytest.mark.parametrize("field", [3, 4])
def test_seconds_are_seconds(seconds, field):
    fields = [*DONE_FIELDS]
    fields[field] = seconds
    with pytest.raises(WireError):
        unpack_reply([wire.pack(fields)])


WORK_FIELDS = ["work", 7, 100, 10, 12, 0, 0, b"", [[0, bytes(16)]]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            (1, 0),
            (1, -1),
            (1, "7"),
            (2, 11),
            (2, 2**41),
            (3, -1),
            (3, 12),
            (4, 10),
            (4, 101),
            (5, -1),
            (6, -1),
            (7, ""),
        ],
        *[(8, {}), (8, []), (8, [[0, bytes(8)]]), (8, [[0, bytes(24)]]), (8, [[0, bytes(15)]]), (8, [[0, [1, 2]]])],
        *[
            (8, [["0", bytes(16)]]),
            (8, [[0]]),
            (8, [None]),
            (8, [[True, bytes(16)]]),
            (0, "play"),
            (0, None),
            (1, True),
        ],
    ],
)
def test_what_is_no_work(field, value):
    assert unpack_order(wire.pack(WORK_FIELDS))[1].runs == [(0, [0, 0])]
    fields = [*WORK_FIELDS]
    fields[field] = value
    with pytest.raises(WireError):
        unpack_order(wire.pack(fields))


@pytest.mark.parametrize(
    "message",
    [["ping", 1], ["stop", None], ["cancel"], ["cancel", "1"], ["welcome", 1], ["hello"], [], "stop", b"stop", None, 3],
)
def test_what_is_no_order(message):
    with pytest.raises(WireError):
        unpack_order(wire.pack(message))


# Fuzzing: 20,000 messages that are nearly good, and none has an effect but WireError.


def damaged(good, rng):
    """A message with one kind of damage: flipped bits, cut, lengthened, spliced with another, or nothing but noise."""
    data = bytearray(rng.choice(good))
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.randint(1, 4)):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[rng.randint(0, len(data)) :]
    elif kind == 2:
        data += rng.randbytes(rng.randint(1, 20))
    elif kind == 3:
        other = rng.choice(good)
        data[rng.randint(0, len(data)) :] = other[rng.randint(0, len(other)) :]
    elif kind == 4:
        data = bytearray(rng.randbytes(rng.randint(0, 60)))
    elif data:  # a header that announces much
        at = rng.randrange(len(data))
        data[at : at + 1] = rng.choice([b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xdc", b"\xc9"]) + rng.randbytes(4)
    return bytes(data)


REPLIES_PACKED = [[bytes(frame) for frame in pack_reply(reply)] for reply in REPLIES]
NODES = [frames[2] for frames in REPLIES_PACKED if len(frames) > 2]
GOOD = {
    "unpack": [wire.pack([1, "x", {"a": b"y" * 30}, [None] * 50]), wire.pack({}), *NODES],
    "reply": [frames[0] for frames in REPLIES_PACKED],
    "order": [pack_work(WORK), *(wire.pack(m) for m in (["cancel", 5], ["welcome", 7, "skip"], ["ping"], ["stop"]))],
    "layout": [
        LAYOUT,
        layout.layout_of({"x": np.zeros((2, 2)), "t": 1, "m": np.datetime64("2024-01-01")}).packed,
        layout.layout_of(np.zeros(3)).packed,
    ],
    "payload": [bytes(frame) for frame in FRAMES],
    "node": [wire.pack(Writer(NO_REGION).node([np.arange(4), {"a": (1, "x")}, 2**70, np.float32(1)]))],
}


def read(kind, data, rng):
    if kind == "unpack":
        return wire.unpack(data)
    if kind == "reply":
        return unpack_reply([data, *rng.choice(REPLIES_PACKED)[1:]])
    if kind == "order":
        return unpack_order(data)
    if kind == "layout":
        return layout.unpack_layout(data)
    if kind == "payload":
        frames = [bytes(frame) for frame in FRAMES]
        frames[rng.randrange(len(frames))] = data
        return parcels.unpacked(np.zeros(256, np.uint8), frames)
    return parcels.Reader(np.zeros(256, np.uint8), [b"12345678"]).value(data)


@pytest.mark.parametrize(("kind", "count"), [(kind, 3500) for kind in GOOD])
def test_damaged_messages_are_refused_or_read_and_nothing_else(kind, count):
    rng = random.Random(kind)
    refused = longest = 0
    tracemalloc.start()
    try:
        for _ in range(count):
            data = damaged(GOOD[kind], rng)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            try:
                read(kind, data, rng)
            except WireError as error:
                refused += 1
                longest = max(longest, len(str(error)))
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 4 << 20, data
    finally:
        tracemalloc.stop()
    assert refused > count // 2
    assert longest < 500
