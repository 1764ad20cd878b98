"""What is packed comes back with the same bits; whatever else is refused."""

from __future__ import annotations

import math
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrain import wire
from distrain.errors import WireError
from distrain.reporting.channel import messages
from distrain.reporting.channel.messages import Beat, Done, Entry, Failed, Part
from distrain.reporting.merged import Merged

FLOATS = st.floats()
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def bits(numbers):
    return [struct.pack("d", number) for number in numbers]


@given(st.dictionaries(KEYS, st.tuples(FLOATS, FLOATS, FLOATS), max_size=5), st.integers(0, 2**61))
def test_sums_keep_their_bits_and_their_order(sums, iteration):
    found = messages.unpack_report(messages.pack(Part(3, iteration, sums)))
    assert (found.stream, found.iteration, list(found.sums)) == (3, iteration, list(sums))
    assert [bits(x) for x in found.sums.values()] == [bits(x) for x in sums.values()]


@pytest.mark.parametrize(
    "message",
    [
        Beat(5, "update", [0.1, 0.2, 0.3, 0.4, 0.5], 5.0, 0),
        Beat(0, "validation/main", [], 60.0, 12),
        Failed(3, "ValueError: ü"),
        Done(9),
    ],
)
def test_reports(message):
    assert messages.unpack_report(messages.pack(message)) == message


@pytest.mark.parametrize("n_keys", [0, 1, 999, 1000, 1001, 9000])
def test_entries(n_keys):
    means = {f"key {i}": i / 7 for i in range(n_keys)}
    missing = {f"key {i}": [0, i] for i in range(n_keys)}
    entry = Entry(2, Merged(5, 1.5, means, [1, 70_000], missing))
    assert messages.unpack_entry(messages.pack(entry)) == entry


def test_what_cannot_be_sent():
    with pytest.raises(WireError, match="this cannot be sent"):
        messages.pack(Part(0, 0, {"\udc80": (1.0, 1.0, 1.0)}))
    with pytest.raises(WireError, match="more than the 4194304"):
        messages.pack(Part(0, 0, {"x" * 5_000_000: (1.0, 1.0, 1.0)}))
    assert len(messages.unpack_report(messages.pack(Failed(1, "\udc80" * 10_000))).text) == 2000


GOOD = struct.pack("3d", 1, 1, 1)


@pytest.mark.parametrize(
    "content",
    [
        None, 7, [], {}, ["nothing"], [b"beat"], ["beat"], ["done", -1], ["done", 2**63], ["done", 1.0], ["done", True],
        ["done", 1, 1], ["failed", 1, b"x"], ["failed", -1, "x"],
        ["beat", 1, "update", [0.1] * 4, 5.0, 0], ["beat", 1, "update", [0.1] * 5, math.nan, 0],
        ["beat", 1, "update", [0.1, 0.2, 0.3, 0.4, math.inf], 5.0, 0], ["beat", 1, "update", [1] * 5, 5.0, 0],
        ["beat", 1, "update", [], 5.0, -1], ["beat", 1, b"update", [], 5.0, 0], ["beat", -1, "update", [], 5.0, 0],
        ["part", 0, 0, [["a"]], b""], ["part", 0, 0, [["a", "a"]], 2 * GOOD], ["part", 0, 0, [["a"]], GOOD + b"x"],
        ["part", 0, 0, ["a"], GOOD], ["part", 0, 0, [[b"a"]], GOOD], ["part", 0, 0, [], GOOD],
        ["part", -1, 0, [["a"]], GOOD], ["part", 2**20, 0, [["a"]], GOOD], ["part", 0, -1, [["a"]], GOOD],
        ["part", 0, 0, [[["a"]]], GOOD], ["merged", 0, 0, 1.0, [], b"", b"", []],
    ],
)  # fmt: skip
def test_other_reports_are_refused(content):
    with pytest.raises(WireError):
        messages.unpack_report(wire.pack(content))


@pytest.mark.parametrize(
    "content",
    [
        ["done", 1], ["merged"], ["merged", 0, 0, 1.0, [["a"]], b"", b"", []],
        ["merged", 0, 0, 1.0, [], b"", b"xyz", []],
        ["merged", 0, 0, 1.0, [], b"", b"", [["a"]]], ["merged", 0, 0, 1.0, [], b"", b"", [[["a", 1]]]],
        ["merged", 0, 0, 1, [], b"", b"", []], ["merged", -1, 0, 1.0, [], b"", b"", []],
    ],
)  # fmt: skip
def test_other_entries_are_refused(content):
    with pytest.raises(WireError):
        messages.unpack_entry(wire.pack(content))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    for unpack in (messages.unpack_report, messages.unpack_entry):
        try:
            unpack(data)
        except WireError:
            continue


@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_a_damaged_message_is_refused_or_another_message(at, damage):
    packed = bytearray(messages.pack(Part(1, 2, {"main/loss": (1.0, 2.0, 3.0), "main/accuracy": (4.0, 5.0, 6.0)})))
    packed[at : at + len(damage)] = damage
    try:
        messages.unpack_report(bytes(packed))
    except WireError:
        pass


def test_the_memory_is_that_of_the_message():
    data = wire.pack(["part", 0, 0, [["a"] * 4000] * 4000, b""])  # sixteen million keys in sixteen megabytes
    data = data[: messages.MAX_MESSAGE]
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            messages.unpack_report(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
