"""Columns lie where they should, take what fits and nothing else, and make what `concat_examples` would."""

import numpy as np
import pytest

from distrain import wire
from distrain.dataset import concat_examples
from distrain.errors import WireError
from distrain.iterators.feed.layout import (
    ALIGNMENT,
    Column,
    Layout,
    layout_of,
    layout_of_columns,
    unpack_layout,
)

RANDOM = np.random.default_rng(0)


def x(i, dtype=np.float32, shape=(3, 5)):
    return (100 * RANDOM.random(shape)).astype(dtype) + np.asarray(i).astype(dtype)


FITTING = {
    "array": [x(i) for i in range(7)],
    "tuple": [(x(i), np.int32(i)) for i in range(7)],
    "dict": [{"x": x(i), "t": i, "flag": i % 2 == 0} for i in range(7)],
    "numbers": [i / 3 for i in range(7)],
    "ints": [i - 3 for i in range(7)],
    "bools": [i % 2 == 0 for i in range(7)],
    "scalars": [np.float64(i) for i in range(7)],
    "0-dimensional": [np.array(i) for i in range(7)],
    "times": [(np.datetime64("2024-01-01", "D") + i, np.timedelta64(i, "s")) for i in range(7)],
    "fortran": [np.asfortranarray(x(i)) for i in range(7)],
    "half and complex": [(x(i, np.float16), x(i, np.complex64)) for i in range(7)],
    "of no size": [np.empty((0, 3), np.int8) for i in range(7)],
    "one element": [(x(i),) for i in range(7)],
    "dicts in another order": [{"a": 1, "b": x(0)}, {"b": x(1), "a": 2}],
}


def memory_for(layout, rows):
    raw = np.full(layout.nbytes(rows) + ALIGNMENT, 0xAA, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + layout.nbytes(rows)]


def is_same(a, b):
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)


@pytest.mark.parametrize("examples", FITTING.values(), ids=FITTING)
def test_written_in_pieces_they_are_what_concat_examples_makes(examples):
    layout = layout_of(examples[0])
    rows = len(examples)
    views = layout.views(memory_for(layout, rows), rows)
    for start, stop in [(2, rows), (0, 1), (1, 2)]:
        assert layout.write_examples(views, start, examples[start:stop])
    assert is_same(layout.assembled(views), concat_examples(examples))
    one_by_one = layout.views(memory_for(layout, rows), rows)
    assert all(layout.write_example(one_by_one, row, example) for row, example in enumerate(examples))
    assert is_same(layout.assembled(one_by_one), layout.assembled(views))
    for row, example in enumerate(examples):
        found = layout.example(views, row)
        assert is_same(found, example)
        assert type(found) is type(example) or isinstance(found, (np.ndarray, np.generic))


@pytest.mark.parametrize("examples", FITTING.values(), ids=FITTING)
def test_round_trip_as_a_message(examples):
    layout = layout_of(examples[0])
    assert unpack_layout(layout.packed) == layout


@pytest.mark.parametrize("name", ["array", "tuple", "one element", "times"])
def test_columns_are_written_as_they_are(name):
    columns = concat_examples(FITTING[name])
    layout = layout_of_columns(columns)
    views = layout.views(memory_for(layout, 9), 9)
    assert layout.write_columns(views, 2, columns, 7)
    written = [view[2:] for view in views]
    assert is_same(layout.assembled(written), columns)


def test_columns_are_aligned_and_apart():
    layout = layout_of((np.zeros(3, np.int8), np.zeros(5), 1, np.zeros((2, 0))))
    for rows in (1, 2, 7, 64):
        memory = memory_for(layout, rows)
        views = layout.views(memory, rows)
        for i, view in enumerate(views):
            memory[:] = 0
            view[...] = -1
            assert (view.ctypes.data - memory.ctypes.data) % ALIGNMENT == 0
            assert np.count_nonzero(memory.view(np.uint8)) <= view.nbytes
            assert not any(np.any(other) for other in views[:i] + views[i + 1 :])
    assert layout.row_nbytes == 3 + 40 + 8
    assert layout.nbytes(0) == 0


NOT_FITTING = [
    pytest.param((x(0), 1), [(x(0), np.int64(1))], id="a NumPy number among Python's"),
    pytest.param((x(0), np.int64(1)), [(x(0), 1)], id="a Python number among NumPy's"),
    pytest.param(1, [True], id="a bool among ints"),
    pytest.param(1, [1.0], id="a float among ints"),
    pytest.param(1.0, [1], id="an int among floats"),
    pytest.param(1, [2**63], id="an int that is too large"),
    pytest.param(1, [2**200], id="an int that is much too large"),
    pytest.param(x(0), [x(0), x(0).astype(np.float64)], id="dtype"),
    pytest.param(x(0), [x(0), x(0).astype(">f4")], id="byte order"),
    pytest.param(x(0), [x(0), x(0)[:2]], id="shape"),
    pytest.param(x(0), [x(0), x(0).tolist()], id="lists"),
    pytest.param(x(0), [None], id="None"),
    pytest.param(x(0), [(x(0),)], id="a tuple among arrays"),
    pytest.param((x(0), 1), [(x(0),)], id="too few elements"),
    pytest.param((x(0), 1), [(x(0), 1, 2)], id="too many elements"),
    pytest.param((x(0), 1), [[x(0), 1]], id="a list among tuples"),
    pytest.param({"a": 1}, [{"a": 1, "b": 2}], id="another key"),
    pytest.param({"a": 1}, [{"b": 1}], id="other keys"),
    pytest.param({"a": 1}, [(1,)], id="a tuple among dicts"),
    pytest.param(np.datetime64("2024-01-01", "D"), [np.datetime64("2024-01-01", "s")], id="unit"),
]


@pytest.mark.parametrize(("first", "examples"), NOT_FITTING)
def test_what_does_not_fit_is_refused(first, examples):
    layout = layout_of(first)
    views = layout.views(memory_for(layout, 4), 4)
    assert layout.write_examples(views, 0, [first])
    before = layout.example([view.copy() for view in views], 0)
    assert not layout.write_examples(views, 1, examples)
    assert not all(layout.write_example(views, 1 + i, example) for i, example in enumerate(examples))
    assert is_same(layout.example(views, 0), before)


@pytest.mark.parametrize(
    "columns",
    [
        np.zeros((2, 3)),
        (np.zeros((2, 3), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 3)), np.zeros(2, np.int32)),
        (np.zeros((2, 4)), np.zeros(2, np.int64)),
        (np.zeros((3, 3)), np.zeros(3, np.int64)),
        (np.zeros((2, 3)),),
        [np.zeros((2, 3)), np.zeros(2, np.int64)],
        (np.zeros((2, 3)), [0, 1]),
        {"a": np.zeros((2, 3)), "b": np.zeros(2, np.int64)},
        None,
    ],
)
def test_columns_that_do_not_fit_are_refused(columns):
    layout = layout_of((np.zeros(3), np.int64(0)))
    views = layout.views(memory_for(layout, 2), 2)
    for view in views:
        view[...] = 7
    assert not layout.write_columns(views, 0, columns, 2)
    assert all((view == 7).all() for view in views)


def test_columns_do_not_go_where_python_numbers_are():
    layout = layout_of(1)
    assert not layout.write_columns(layout.views(memory_for(layout, 2), 2), 0, np.zeros(2, np.int64), 2)


@pytest.mark.parametrize(
    "example",
    [
        *[None, "text", b"bytes", [1, 2], (), {}, (1, None), (1, "x"), (x(0), [1]), {"a": "b"}, {1: x(0)}, 1j],
        *[
            x(0).astype(">f4"),
            (1, np.array([1], ">i8")),
            np.str_("x"),
            np.array(["a"]),
            np.array([None]),
            np.zeros(2, "i4,f4"),
            (x(0), (x(0), 1)),
            {"a": {"b": 1}},
        ],
        *[np.ma.masked_array([1]), tuple(range(1001)), {str(i): i for i in range(1001)}, object()],
    ],
)
def test_examples_without_a_layout(example):
    assert layout_of(example) is None


@pytest.mark.parametrize(
    "columns", [np.empty((0, 3)), np.zeros(2, ">i2"), (np.zeros(2), [1, 2]), {"a": None}, np.array(["a"]), None, [x(0)]]
)
def test_columns_without_a_layout(columns):
    assert layout_of_columns(columns) is None


@pytest.mark.parametrize("example", [tuple(range(1000)), {str(i): x(i) for i in range(1000)}])
def test_the_largest_layout_can_be_sent(example):
    layout = layout_of(example)
    assert unpack_layout(layout.packed) == layout


COLUMN = ["<f4", [3], False]


@pytest.mark.parametrize(
    "fields",
    [
        *[None, [], ["array", [], [COLUMN], 1], ["array", {}, [COLUMN]], ["array", [], {}], {"kind": "array"}],
        *[["list", [], [COLUMN]], [None, [], [COLUMN]], [["array"], [], [COLUMN]], ["array", [], []]],
        *[["array", [], [COLUMN, COLUMN]], ["array", ["a"], [COLUMN]], ["tuple", ["a"], [COLUMN]]],
        *[["dict", [], [COLUMN]], ["dict", ["a", "b"], [COLUMN]], ["dict", [1], [COLUMN]], ["dict", [b"a"], [COLUMN]]],
        *[["tuple", [], [None]], ["tuple", [], [["<f4", [3]]]], ["tuple", [], [["<f4", [3], 0]]]],
        *[
            ["tuple", [], [["<f4", [3], None]]],
            ["tuple", [], [["<f4", [], True]]],
            ["tuple", [], [["|O8", [3], False]]],
        ],
        *[["tuple", [], [["<f4", [2**41], False]]], ["tuple", [], [["<f4", [0, 2**63], False]]]],
        *[
            ["tuple", [], [["<f4", [-3], False]]],
            ["tuple", [], [["<f4", "3", False]]],
            ["tuple", [], [[b"<f4", [3], False]]],
        ],
    ],
)
def test_messages_that_are_no_layout(fields):
    with pytest.raises(WireError):
        unpack_layout(wire.pack(fields))


def test_equal_layouts_are_equal_whatever_was_asked_of_them():
    one = Layout("array", (), (Column("<f4", (3,)),))
    other = layout_of(np.zeros(3, np.float32))
    assert one.packed == other.packed
    assert one == other
    assert one.row_nbytes == 12
