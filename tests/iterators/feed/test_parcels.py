"""Examples of any shape come back as they were, or are refused with the path of what cannot travel."""

import datetime
import threading
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distrain import wire
from distrain.errors import TransferError, WireError
from distrain.iterators.feed.parcels import NO_REGION, Reader, Writer, payload, unpacked

DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes(endianness="?")
    | hnp.datetime64_dtypes(endianness="?")
    | hnp.timedelta64_dtypes(endianness="?")
    | hnp.unicode_string_dtypes(endianness="?", max_len=5)
    | hnp.byte_string_dtypes(max_len=5)
)
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
TEXT = st.text(st.characters(codec="utf-8"))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | TEXT
    | st.binary()
    | ARRAYS
    | ARRAYS.filter(lambda array: array.size > 0).map(lambda array: array.reshape(-1)[0])
)
EXAMPLES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT | st.integers(-5, 5) | st.binary(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def is_same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.dtype.str == b.dtype.str and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(is_same(a[key], b[key]) for key in a)
    return repr(a) == repr(b)


def sent(examples, nbytes=0):
    """Writes examples and reads them, through copies of the frames as a socket would make them."""
    region = np.full(nbytes, 0xAA, np.uint8) if nbytes else NO_REGION
    writer = Writer(region)
    frames = payload(writer, [writer.packed(example) for example in examples])
    assert all(len(frame) <= wire.MAX_FRAME for frame in frames)
    return unpacked(region, [bytes(frame) for frame in frames]), writer


@settings(deadline=None, max_examples=200)
@given(st.lists(EXAMPLES, max_size=4), st.sampled_from([0, 64, 200, 100_000]))
def test_round_trip(examples, nbytes):
    found, _ = sent(examples, nbytes)
    assert is_same(found, examples)


RANDOM = np.random.default_rng(0)
ODD = {
    "fortran": np.asfortranarray(RANDOM.random((3, 4, 5))),
    "strided": RANDOM.random((6, 8))[::2, ::-3],
    "big-endian": np.arange(5, dtype=">i4"),
    "transposed big-endian": np.arange(6, dtype=">f8").reshape(2, 3).T,
    "0-dimensional": np.array(3.5),
    "empty": np.empty((0, 3), np.float32),
    "empty strings": np.array(["", ""]),
    "read-only": np.broadcast_to(np.float32(2), (3, 3)),
    "of no size": np.empty((2, 0, 2), "M8[D]"),
    "object-like times": np.array(["2024-01-01", "NaT"], "M8[ns]"),
}


@pytest.mark.parametrize("nbytes", [0, 4096], ids=["frames", "region"])
@pytest.mark.parametrize("array", ODD.values(), ids=ODD)
def test_odd_arrays(array, nbytes):
    (found,), _ = sent([array], nbytes)
    assert is_same(found, array) or np.array_equal(found, array, equal_nan=array.dtype.kind in "fcmM")
    assert found.shape == array.shape
    assert found.dtype == array.dtype
    assert found.flags.writeable


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**3000, -(10**3000), 2**13000 - 1])
def test_huge_integers(value):
    assert sent([[value]])[0] == [[value]]


def test_many_elements_take_more_than_one_list():
    value = (list(range(5000)), {str(i): i for i in range(5000)}, tuple("x" * 3000))
    assert is_same(sent([value])[0], [value])


class TestWhereArraysLie:
    def test_in_the_region_while_that_has_room(self):
        arrays = [np.arange(10, dtype=np.uint8) + i for i in range(4)]
        found, writer = sent([arrays], 64 * 3)
        assert is_same(found, [arrays])
        assert writer.spilled == 10
        assert len(writer.frames) == 1

    def test_arrays_in_the_region_are_views_of_it(self):
        region = np.zeros(256, np.uint8)
        writer = Writer(region)
        frames = payload(writer, [writer.packed([np.arange(3), np.ones(3)])])
        ((first, second),) = unpacked(region, frames)
        assert np.shares_memory(first, region)
        assert np.shares_memory(second, region)
        region[:] = 0
        assert not first.any()
        assert not second.any()

    @pytest.mark.parametrize("kind", [bytes, bytearray])  # as a socket gives them: one that may be written to is kept
    def test_arrays_in_frames_are_the_readers_own(self, kind):
        array = np.arange(6, dtype=np.int16)
        writer = Writer(NO_REGION)
        frames = [kind(frame) for frame in payload(writer, [writer.packed(array)])]
        (found,) = unpacked(NO_REGION, frames)
        assert not np.shares_memory(found, array)
        found[:] = 0
        assert array.any()

    def test_cut_into_frames_that_a_socket_takes(self, monkeypatch):
        monkeypatch.setattr(wire, "MAX_FRAME", 100)
        examples = [[np.arange(1000, dtype=np.uint16), np.zeros(50, np.uint8), "x"], [np.arange(3.0)], [b"y" * 70]]
        found, writer = sent(examples)
        assert is_same(found, examples)
        assert writer.spilled == 2000 + 50 + 24
        assert len(writer.frames) == 20 + 1 + 1

    def test_large_examples_without_arrays_are_cut_too(self, monkeypatch):
        monkeypatch.setattr(wire, "MAX_FRAME", 100)
        examples = [b"x" * 1000, "y" * 99, [b"z" * 33] * 20, np.arange(30)]
        found, writer = sent(examples)
        assert is_same(found, examples)
        assert writer.spilled == 240


Point = namedtuple("Point", "x y")


class Own(dict):
    pass


class Array(np.ndarray):
    pass


REFUSED = {
    "a lock": (threading.Lock(), "the example is a _thread.lock"),
    "a set": ((1, {"a": {1}}), r"element \[1\]\['a'\] is a builtins.set"),
    "a date": ([0, datetime.date(2024, 1, 1)], r"element \[1\] is a datetime.date"),
    "a named tuple": (Point(1, 2), "the example is a .*Point, which cannot travel"),
    "a subclass of dict": ([Own()], r"element \[0\] is a .*Own"),
    "a subclass of array": ([np.zeros(2).view(Array)], r"element \[0\] is a .*Array"),
    "a masked array": (np.ma.masked_array([1, 2], [True, False]), "the example is a numpy.ma"),
    "objects": ({"a": np.array([{}])}, r"element \['a'\] is an array of dtype object"),
    "a structured array": ((np.zeros(2, "i4,f4"),), r"element \[0\] is an array of dtype"),
    "a structured scalar": ((np.zeros(2, "i4,f4")[0],), r"element \[0\] is a numpy.void"),
    "odd keys": ({"a": {1.5: 2}}, r"element \['a'\] is a dict of 1 keys"),
    "a long integer": ((1, 2**13000), r"element \[1\] is an int of 13001 bits"),
    "too many elements": (
        {"a": [None] * (2**20 + 1)},
        r"element \['a'\] is a list of 1048577 elements; make it an array",
    ),
    "a lone surrogate": ("\udc80", "the example cannot travel .*surrogates not allowed"),
    "a large key": ({2**70: 1}, "the example cannot travel"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_travel_is_named(value, message):
    with pytest.raises(TransferError, match=message):
        Writer(NO_REGION).packed(value)


def test_nesting_has_an_end():
    value = 1
    for _ in range(32):
        value = [value]
    assert sent([value])[0] == [value]
    with pytest.raises(TransferError, match=r"element (\[0\]){32} is nested more than 32 deep"):
        Writer(NO_REGION).packed([value])
    loop = {}
    loop["self"] = loop
    with pytest.raises(TransferError, match="nested more than 32 deep"):
        Writer(NO_REGION).packed(loop)


REGION = np.zeros(640, np.uint8)
FRAMES = [b"12345678", b"abcd", b""]


def nest(depth):
    node = None
    for _ in range(depth):
        node = ["l", [node]]
    return node


@pytest.mark.parametrize(
    "node",
    [
        *[
            [],
            [[]],
            ["x"],
            [None],
            ["t", 1],
            ["l", {}],
            ["d", [1]],
            ["d", [[1]]],
            ["d", [[[1], 2]]],
            ["d", [[None, 2]]],
        ],
        *[["d", [[1.5, 2]]], ["d", [[True, 2]]], nest(40), [["a"]], [b"a", "<f4", [1], 0]],
        *[["a", "<f8", [81], 0], ["a", "<f8", [80], 64], ["a", "<f8", [1], -64], ["a", "<f8", [1], 3]],
        *[["a", "<f8", [1], 640], ["a", "<f8", [1], 2**62], ["a", "<f8", [1], None], ["a", "<f8", [1], True]],
        *[["a", "|O8", [1], 0], ["a", "<f8", [-1], 0], ["a", "<f8", [0, 2**62], 0], ["a", "<f8", [2**33, 2**33], 0]],
        *[["a", "<f8", 1, 0], ["a", "<f8", [1]], ["a", nest(300), [1], 0], ["a", "<f8", nest(300), 0]],
        *[["a", "<f8", [1], nest(300)], nest(1)[:1] + [nest(100)]],
        *[["f", "<f8", [2], 0, 1], ["f", "<f8", [1], 1, 1], ["f", "<f8", [1], 0, 4], ["f", "<f8", [1], 0, -1]],
        *[
            ["f", "<f8", [1], -1, 1],
            ["f", "<f8", [0, 2**61], 0, 0],
            ["f", "<f8", [1], 2**63, 1],
            ["f", "<f8", [1], 0, True],
        ],
        *[["f", "<f4", [4], 0, 2], ["f", "<f8", [1], "0", 1], ["f", "<f8", [1], 0, 0], ["f", "<f8", [0], 0, 1]],
        *[["s", "<f8", b"1234"], ["s", "|O8", b"12345678"], ["s", "<f8", "12345678"], ["s", "<f8", None]],
        *[["i", "x"], ["i", ""], ["i", "9" * 5000], ["i", 5], ["i", b"5"], ["i", "1e5"], ["i"]],
    ],
)
def test_nodes_that_are_none(node):
    with pytest.raises(WireError) as caught:
        Reader(REGION, FRAMES).value(wire.pack(node))
    assert len(str(caught.value)) < 400


def test_a_frame_is_read_once():
    reader = Reader(NO_REGION, [b"12345678"])
    node = wire.pack(["f", "|u1", [8], 0, 1])
    assert bytes(reader.value(node)) == b"12345678"
    with pytest.raises(WireError):
        reader.value(node)


def lengths(*values):
    return np.array(values, np.int64).tobytes()


@pytest.mark.parametrize(
    "frames",
    [
        *[[], [b""], [b"x" * 8], [lengths(1)], [lengths(1), b""], [lengths(2), b"\x01"], [lengths(1)[:7], b"\x01"]],
        *[[lengths(-1, 2), b"\x01"], [lengths(0, 1), b"\x01"], [lengths(1), b"\xc1"], [lengths(1), b"\x01\x01"]],
        *[[lengths(*[2**62] * 4, 1), b"\x01"], [lengths(2**62), b"\x01"], [lengths(1, 1), b"\x91\x01"]],
    ],
)
def test_payloads_that_are_none(frames):
    with pytest.raises(WireError):
        unpacked(NO_REGION, frames)
