"""Minibatches come through the feed as SerialIterator would make them, whatever the examples are like."""

import os
import time

import numpy as np
import pytest

from distrain import wire
from distrain.dataset import concat_examples
from distrain.datasets import DictDataset, TupleDataset
from distrain.errors import TransferError
from distrain.iterators import MultiprocessIterator, SerialIterator
from distrain.iterators.feed.feed import Feed, Options
from distrain.iterators.feed.layout import layout_of
from distrain.iterators.feed.server import Cargo, region_of

N = 48


class Made:
    """A dataset of what a function makes."""

    def __init__(self, make, length=N):
        self.make = make
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return self.make(i)


TEXTS = np.array(["x" * (i % 40 + 1) for i in range(N)])
DATASETS = {
    "some examples larger": Made(lambda i: (np.full(40 if i % 7 else 33, i, np.float32), np.full(8, i))),
    "no two of one shape": Made(lambda i: (np.full(3 + 10 * i, i, np.float32), np.full(8, i))),
    "much larger than the first": Made(lambda i: np.full(5000 * (i % 5), i, np.int16)),
    "some of another dtype": Made(lambda i: np.full(4, i, np.float32 if i % 5 else np.float64)),
    "nested": Made(lambda i: {"a": (np.full(i, i), [i, str(i)]), "b": None}),
    "big-endian": Made(lambda i: (np.full(3, i, ">f4"), i)),
    "many elements": Made(lambda i: tuple(float(i + k) for k in range(1500))),
    "empty strings": Made(lambda i: (np.str_(""), "", b"", i)),
    "columns of strings": TupleDataset(TEXTS, np.arange(N)),
    "a dict of columns of strings": DictDataset(a=TEXTS, b=np.arange(N)),
    "big-endian columns": TupleDataset(np.arange(N, dtype=">i2"), np.ones((N, 2), ">f8")),
}


def is_same(a, b):
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def collated(batch):
    try:
        return concat_examples(batch)
    except Exception as error:
        return str(error)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_the_minibatches_are_those_of_the_serial_iterator(dataset):
    serial = SerialIterator(dataset, 5, seed=1)
    iterator = MultiprocessIterator(dataset, 5, seed=1, n_processes=2)
    kept = []
    for step in range(24):
        expected, found = serial.next(), iterator.next()
        kept.append((expected, found))
        assert is_same(list(expected), list(found))
        assert is_same(collated(expected), collated(found))
        if step < 12:  # memory is used again, and later it is not
            kept.clear()
        del found
    for expected, found in kept:
        assert is_same(list(expected), list(found))
    stats = iterator.stats()
    assert (stats["respawns"], stats["refused"]) == (0, 0)
    assert stats["spilled"] < 60  # the slots grow until all fits
    iterator.finalize()


def test_the_region_of_some_rows_lies_behind_the_columns_and_apart_from_others():
    layout = layout_of((np.zeros(5), 1))
    memory = np.zeros(4096, np.uint8)
    for own in (None, layout):
        parts = [region_of(memory, own, start, start + 2, 10) for start in range(0, 10, 2)]
        assert len({len(part) for part in parts}) == 1
        for value, part in enumerate(parts, 1):
            part += value
        assert all((part == value).all() for value, part in enumerate(parts, 1))
        assert memory.sum(dtype=int) == sum(part.sum(dtype=int) for part in parts)
        if own is not None:
            assert not memory[: own.nbytes(10)].any()
        memory[:] = 0
    assert len(region_of(memory[: layout.nbytes(10)], layout, 0, 10, 10)) == 0


def test_payloads_larger_than_a_message():
    dataset = Made(lambda i: bytes([i]) * (wire.MAX_FRAME // 2), length=4)
    iterator = MultiprocessIterator(dataset, 4, shuffle=False, n_processes=1, n_prefetch=0)
    assert [(len(text), text[0]) for text in iterator.next()] == [(wire.MAX_FRAME // 2, i) for i in range(4)]
    iterator.finalize()


def raising(error):
    def make(i):
        if i == 3:
            raise error
        return i

    return make


@pytest.mark.parametrize("error", [ValueError(10**30), OSError("name \udc80"), LookupError("x" * 10**6)])
def test_errors_that_are_hard_to_send(error):
    iterator = MultiprocessIterator(Made(raising(error)), 4, shuffle=False, n_processes=1)
    with pytest.raises(type(error)) as caught:
        iterator.next()
    assert "reading sample 3 of Made (epoch 0)" in caught.value.__notes__
    assert iterator.stats()["respawns"] == 0
    iterator.finalize()


@pytest.mark.parametrize("example", [2**13000, "\udc80"])
def test_examples_that_cannot_be_sent(example):
    iterator = MultiprocessIterator(Made(lambda i: example if i == 3 else 0), 4, shuffle=False, n_processes=1)
    with pytest.raises(TransferError, match="sample 3 of Made"):
        iterator.next()
    assert iterator.stats()["respawns"] == 0
    iterator.finalize()


# The feed alone


def within(seconds, condition, feed):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        feed._poll()


@pytest.fixture
def start():
    feeds = []

    def start(dataset, n_processes=1, **options):
        feeds.append(Feed(Cargo(dataset, None, 0, "raise"), Options(n_processes, **options)))
        return feeds[-1]

    yield start
    for feed in feeds:
        feed.close()


def never(message):
    raise AssertionError(message)


def test_a_minibatch_is_not_written_to_by_whoever_was_slower(start, tmp_path):
    """Two feeders do the same work; the slower one writes when the user has the batch, and has changed it."""

    def make(i):
        if i == 5:
            try:
                os.open(tmp_path / "first", os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                return np.full(1000, i)
            while not (tmp_path / "go").exists():
                time.sleep(0.005)
        return np.full(1000, i)

    feed = start(Made(make), 2)
    feed.take(feed.submit([(0, [0, 1])]), 60, never)
    within(60, lambda: len(list(feed._window.members)) == 2, feed)
    job = feed.submit([(0, [5])])
    feed._assign()
    (piece,) = job.pieces
    within(60, (tmp_path / "first").exists, feed)
    (other,) = (member for member in feed._window.members if not feed._window.load(member))
    assert feed._issue(piece, other)
    columns, _ = feed.take(job, 60, never)
    assert (columns == 5).all()
    columns[:] = -1
    (tmp_path / "go").touch()
    within(60, lambda: not any(map(feed._window.load, feed._window.members)), feed)
    assert (columns == -1).all()
    assert feed.statistics.refused == 0


def test_what_was_given_up_is_neither_refused_nor_learned_from(start):
    feed = start(Made(lambda i: [np.full(100 * (i + 1), i)] * 2))
    feed.take(feed.submit([(0, [0, 1])]), 60, never)
    for _ in range(20):
        for _ in range(3):
            feed.submit([(0, [4, 2, 3])])
            feed._assign()
        feed.drop_all()
        _, examples = feed.take(feed.submit([(0, [1, 0])]), 60, never)
        assert [example[0][0] for example in examples] == [1, 0]
    assert (feed.statistics.refused, feed.statistics.respawns) == (0, 0)


def test_slots_come_back_without_the_garbage_collector(start):
    import gc

    feed = start(Made(lambda i: [np.full(1000, i)]))
    gc.disable()
    try:
        for i in range(20):
            _, (first, _) = feed.take(feed.submit([(0, [i, i + 1])]), 60, never)
            assert first[0][0] == i
            del first, _
    finally:
        gc.enable()
    assert len(feed._arena.slots) <= 4
