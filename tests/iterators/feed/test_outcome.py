"""What a finished minibatch becomes."""

import numpy as np
import pytest

from distrain.errors import DatasetError, SampleError, TransferError
from distrain.iterators.feed.arena import Arena
from distrain.iterators.feed.layout import layout_of
from distrain.iterators.feed.outcome import error_of, minibatch_of, poisonous
from distrain.iterators.feed.protocol import Done, Failed
from distrain.iterators.feed.window import Job, Piece

ROWS = 6
EXAMPLES = [(np.full(3, i, np.float32), i) for i in range(ROWS)]


def done(form):
    return Done(0, form, 0.0, 0.0, 0, b"", 0, [])


def failed(error, message, arguments, notes=(), traceback="Traceback: it was here"):
    return Failed(1, 2, 3, 44, error, message, list(notes), traceback, arguments)


@pytest.fixture
def job():
    """A job of three pieces of two rows, whose rows are in its columns."""
    arena = Arena()
    layout = layout_of(EXAMPLES[0])
    slot = arena.add_slot(layout.nbytes(ROWS))
    job = Job([(0, list(range(ROWS)))], ROWS, slot, slot.lend(), layout)
    job.layout.write_examples(layout.views(job.memory, ROWS), 0, EXAMPLES)
    for piece in job.cut(2):
        piece.answer = done("columns")
    yield job
    arena.close()


def is_same(found, expected):
    return all(
        np.array_equal(a, b) and type(a) is type(b)
        for x, y in zip(found, expected, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("copy", [False, True])
class TestMinibatch:
    def test_all_rows_in_columns(self, job, copy):
        (x, t), examples = minibatch_of(job, copy)
        assert examples is None
        assert x.dtype == np.float32
        assert t.tolist() == list(range(ROWS))
        assert np.shares_memory(x, job.memory) != copy

    def test_some_rows_elsewhere(self, job, copy):
        own = np.full(7, 2.5)
        job.pieces[1].answer, job.pieces[1].values = done("examples"), [(own, 2), (own[:1], 3)]
        columns, examples = minibatch_of(job, copy)
        assert columns is None
        assert is_same(examples, [*EXAMPLES[:2], (own, 2), (own[:1], 3), *EXAMPLES[4:]])
        assert np.shares_memory(examples[2][0], own) != copy
        assert np.shares_memory(examples[0][0], job.memory) != copy

    def test_a_converters_batch(self, job, copy):
        own = {"padded": [np.ones(3)], "n": 5}
        job.layout, job.pieces = None, [Piece(job, 0, ROWS, done("batch"), [own])]
        found, examples = minibatch_of(job, copy)
        assert examples is None
        assert found["n"] == 5
        assert np.shares_memory(found["padded"][0], own["padded"][0]) != copy

    @pytest.mark.parametrize("kind", [lambda x: x, lambda x: (x, x[:, 0]), lambda x: {"a": x, "b": x[:, 0]}])
    def test_columns_that_came_in_parts(self, job, copy, kind):
        whole = np.array([["long text", "b"], ["c", "d"]] * 3, ">U9")
        job.layout = None
        for piece in job.pieces:
            piece.answer, piece.values = done("parcel"), [kind(whole[piece.start : piece.stop])]
        found, examples = minibatch_of(job, copy)
        assert examples is None
        for part, expected in zip(
            *(
                x.values() if isinstance(x, dict) else [x] if isinstance(x, np.ndarray) else x
                for x in (found, kind(whole))
            ),
            strict=True,
        ):
            assert part.dtype == expected.dtype
            assert np.array_equal(part, expected)
            assert not np.shares_memory(part, whole)

    def test_columns_in_one_part(self, job, copy):
        whole = np.arange(ROWS)
        job.layout, job.pieces = None, [Piece(job, 0, ROWS, done("parcel"), [whole])]
        found, _ = minibatch_of(job, copy)
        assert np.array_equal(found, whole)
        assert np.shares_memory(found, whole) != copy

    def test_columns_of_several_kinds_become_examples(self, job, copy):
        job.layout = None
        parts = [np.zeros((2, 3)), np.ones((2, 4)), np.ones((2, 3), np.int8)]
        for piece, part in zip(job.pieces, parts, strict=True):
            piece.answer, piece.values = done("parcel"), [part]
        columns, examples = minibatch_of(job, copy)
        assert columns is None
        assert [example.shape for example in examples] == [(3,), (3,), (4,), (4,), (3,), (3,)]
        assert np.shares_memory(examples[0], parts[0]) != copy


class Data:
    pass


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            ValueError("x", 3),
            KeyError("missing"),
            OSError(2, "no such file"),
            IndexError(),
            ZeroDivisionError("1/0"),
            UserWarning("w"),
        ],
    )
    def test_built_in_ones_are_raised_again(self, error):
        found = error_of(failed(type(error).__name__, str(error), [*error.args]), Data())
        assert type(found) is type(error)
        assert found.args == error.args
        assert getattr(found, "errno", None) == getattr(error, "errno", None)

    @pytest.mark.parametrize("name", ["ValueError", "OSError", "RecursionError", "AssertionError"])
    def test_whose_arguments_did_not_travel_keep_their_text(self, name):
        found = error_of(failed(name, "the text", None), Data())
        assert type(found).__name__ == name
        assert str(found) == "the text"

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("my.module.OwnError", None),
            ("UnicodeDecodeError", None),
            ("KeyError", None),
            ("StopIteration", ["the text"]),
            ("StopAsyncIteration", ["the text"]),
            ("SystemExit", ["the text"]),
            ("KeyboardInterrupt", ["the text"]),
            ("GeneratorExit", ["the text"]),
            ("BaseException", ["the text"]),
            ("ExceptionGroup", ["the text", []]),
            ("print", ["the text"]),
            ("int", ["7"]),
            ("__import__", ["os"]),
            ("", None),
        ],
    )
    def test_others_become_a_sample_error(self, name, arguments):
        found = error_of(failed(name, "the text", arguments), Data())
        assert type(found) is SampleError
        assert str(found) == f"sample 44 of Data (epoch 3) cannot be read: {name}: the text"
        assert isinstance(found, DatasetError)

    def test_what_cannot_travel(self):
        found = error_of(failed("TransferError", "element [1] is a lock", None), Data())
        assert type(found) is TransferError
        assert str(found) == "sample 44 of Data (epoch 3): element [1] is a lock"

    def test_notes_name_the_sample_once_and_end_with_the_traceback(self):
        place = "reading sample 44 of Data (epoch 3)"
        trace = "in a feeder:\nTraceback: it was here"
        for notes, expected in [
            ([], [place, trace]),
            ([place], [place, trace]),
            (["mine", place], ["mine", place, trace]),
            (["in the converter, for the samples [44]"], ["in the converter, for the samples [44]", trace]),
        ]:
            assert error_of(failed("ValueError", "x", ["x"], notes), Data()).__notes__ == expected


def test_a_poisonous_sample_is_named():
    job = Job([(3, [7, 8]), (4, [44])], 3)
    failure = poisonous(job, 2, 2, "SIGSEGV", "Fatal Python error\nin file x")
    error = error_of(failure, Data())
    assert type(error) is SampleError
    assert str(error) == (
        "sample 44 of Data (epoch 4) cannot be read: it has ended 2 feeders in a row (SIGSEGV). The last one wrote:\n"
        "Fatal Python error\nin file x"
    )
    assert "wrote" not in poisonous(job, 0, 2, "SIGKILL", "").message
