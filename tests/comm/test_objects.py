from __future__ import annotations

import enum
import math
import pickle
import struct
from collections import OrderedDict, namedtuple
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distrain.comm.objects import dumps, loads
from distrain.errors import WireError

Pair = namedtuple("Pair", "left right")
STRUCTURE = np.dtype([("a", "<i4"), (("title", "b"), ">f8", (2, 3)), ("c", [("d", "S3")])])
ALIGNED = np.dtype([("a", "i1"), ("b", "f8")], align=True)


class Color(enum.IntEnum):
    RED = 1


class Number(np.float64):
    pass


class Text(str):
    pass


def same(found: Any, given: Any) -> None:
    """As equal as what comes out of a pickle: types, bits, order, and arrays that can be written."""
    assert type(found) is type(given)
    if isinstance(given, np.ndarray):
        assert (found.dtype, found.shape, found.flags.fnc) == (given.dtype, given.shape, given.flags.fnc)
        assert found.flags.writeable
        if given.dtype.hasobject:
            same(found.tolist(), given.tolist())
        else:
            assert found.tobytes() == given.tobytes()
    elif isinstance(given, dict):
        same(list(found.items()), list(given.items()))
    elif isinstance(given, (list, tuple)):
        assert len(found) == len(given)
        for one, other in zip(found, given, strict=True):
            same(one, other)
    elif isinstance(given, float):
        assert struct.pack("d", found) == struct.pack("d", given)
    elif isinstance(given, np.generic):
        assert (found.dtype, found.tobytes()) == (given.dtype, given.tobytes())
    else:
        assert found == given


def pickled(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj, pickle.HIGHEST_PROTOCOL))


def way(obj: Any) -> str:
    return {b"m": "message", b"p": "pickle"}[bytes(dumps(obj)[:1])]


DTYPES = st.one_of(
    hnp.scalar_dtypes(),
    hnp.byte_string_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.array_dtypes(),
    hnp.nested_dtypes(),
)
ARRAYS = st.builds(
    lambda array, change: change(array),
    hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
    st.sampled_from([lambda a: a, lambda a: a.T, lambda a: a[..., ::2] if a.ndim else a, np.asfortranarray]),
)
NUMBERS = hnp.scalar_dtypes().flatmap(hnp.from_dtype)
OTHERS = st.sampled_from(
    [
        {1, 2},
        frozenset("ab"),
        2j,
        bytearray(b"x"),
        Color.RED,
        Text("x"),
        Pair(1, [2]),
        OrderedDict(a=1),
        2**80,
    ]
)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary())
SURROGATES = st.text(st.characters(), max_size=3)
KEYS = st.recursive(PLAIN, lambda keys: st.tuples(keys, keys), max_leaves=3)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(KEYS, inner, max_size=3)
        ),
        max_leaves=12,
    )


on_a_busy_machine = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@on_a_busy_machine
@given(trees(st.one_of(PLAIN, SURROGATES, ARRAYS, NUMBERS, OTHERS)))
def test_what_comes_out_is_what_went_in(obj: Any) -> None:
    same(loads(dumps(obj)), obj if way(obj) == "message" else pickled(obj))


def rebuilt(obj: Any) -> Any:
    """The same with nothing in two places."""
    if isinstance(obj, dict):
        return {rebuilt(key): rebuilt(value) for key, value in obj.items()}
    return type(obj)(map(rebuilt, obj)) if isinstance(obj, (list, tuple)) else obj


@on_a_busy_machine
@given(trees(PLAIN))
def test_plain_objects_are_messages(obj: Any) -> None:
    assert way(rebuilt(obj)) == "message"
    same(loads(dumps(rebuilt(obj))), obj)


@pytest.mark.parametrize(
    "obj",
    [
        None,
        (),
        [[], {}, (), ((),)],
        {"rank": 1, 2: None, (3, ("x", 4.0)): [True, -0.0, math.nan], b"": "é", None: 2**64 - 1},
        np.arange(12).reshape(3, 4)[:, ::2],
        [
            np.zeros(3, "?"),
            np.ones((2, 0, 3), ">f2"),
            np.array("now", "M8[s]"),
            np.array(["ab\0", ""]),
            np.array(b"x\0"),
        ],
        {"structure": np.zeros((2, 1), STRUCTURE), "void": np.zeros(3, "V5"), "long": np.ones(2, np.longdouble)},
        (np.float32(1.5), np.int64(-1), np.bool_(True), np.complex128(1 - 2j), np.timedelta64("NaT"), np.uint8(255)),
        {np.int32(3): np.datetime64("2026-01-01T00:00", "m")},
        "x" * 70000,
        list(range(5000)),
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_these_are_messages(obj: Any) -> None:
    assert way(obj) == "message"
    same(loads(dumps(obj)), obj)


def deep(depth: int) -> Any:
    obj: Any = ()
    for level in range(depth):
        obj = [obj] if level % 2 else (obj,)
    return obj


@pytest.mark.parametrize(
    "obj",
    [
        [Pair(1, 2)],
        OrderedDict(b=1, a=2),
        {"x": Color.RED},
        Text("x"),
        (bytearray(b"x"), {1, 2}, 1j),
        [2**64],
        -(2**63) - 1,
        {"\ud800": 1},
        Number(2.0),
        np.str_("a\0"),
        np.bytes_(b"a\0"),
        np.array([{"a": 1}, None]),
        np.zeros(2, ALIGNED),
        np.zeros(2, np.dtype("f4", metadata={"unit": "s"})),
        np.zeros((3,), STRUCTURE)[0],
        np.ma.zeros(3).data.view(np.recarray),
        msgpack.ExtType(0, b""),
        deep(64),
        deep(400),
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_these_are_pickled(obj: Any) -> None:
    assert way(obj) == "pickle"
    same(loads(dumps(obj)), pickled(obj))  # which knows no subclasses of NumPy's numbers


def test_what_is_in_two_places_stays_one_thing() -> None:
    for shared in ([1], {}, np.ones(2)):
        one, other, *_ = loads(dumps([shared, shared, 1.0]))
        assert one is other
    circle: list[Any] = [1]
    circle.append(circle)
    found = loads(dumps(circle))
    assert found[1] is found
    tower: Any = ()
    for _ in range(60):
        tower = (tower, tower)  # 2**60 of them as a message
    assert len(dumps(tower)) < 1000


def test_as_many_lists_in_each_other_as_a_message_may_have() -> None:
    obj = deep(63)
    assert way(obj) == "message"
    same(loads(dumps(obj)), obj)


def test_arrays_have_memory_of_their_own() -> None:
    data = bytearray(dumps([np.arange(3), np.arange(4.0)]))
    one, other = loads(memoryview(data))
    data[:] = bytes(len(data))
    one[...] += 1
    assert one.tolist() == [1, 2, 3]
    assert other.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "obj", [lambda: None, memoryview(b"x"), [np.array([lambda: None])]], ids=["f", "view", "array"]
)
def test_what_cannot_be_pickled_raises_what_the_pickler_raises(obj: Any) -> None:
    with pytest.raises((pickle.PicklingError, TypeError, AttributeError)) as expected:
        pickle.dumps(obj)
    with pytest.raises(expected.type, match="pickle"):
        dumps(obj)


def test_bytes_that_are_no_object() -> None:
    whole = bytes(dumps({"x": np.zeros(1000), "y": (1, np.int8(3))}))
    for data in (b"", b"x", b"m", whole[:8], whole[:30], whole[:-1], b"m" + b"\xff" * 8 + whole[9:]):
        with pytest.raises(WireError):
            loads(memoryview(data))
    small = bytes(dumps(np.zeros(1000, "u1"))[:-1000])
    assert b"\xcd\x03\xe8" in small  # 1000
    with pytest.raises(WireError, match="too few for an array of uint8"):
        loads(memoryview(small.replace(b"\xcd\x03\xe8", b"\xcd\xff\xff")))
