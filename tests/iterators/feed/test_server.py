"""What a feeder does with a piece of work: columns where they fit, the examples as they are where they do not."""

import numpy as np
import pytest

from distrain.iterators.feed.layout import ALIGNMENT, layout_of
from distrain.iterators.feed.parcels import unpacked
from distrain.iterators.feed.protocol import Done, Failed, Work
from distrain.iterators.feed.server import Cargo, Server, region_of

ROWS = 6
SHAPE = {"small": (3, 5), "big": (64, 128)}


class Images:
    """Images and numbers; `odd` ones are of another shape, `broken` ones cannot be read."""

    def __init__(self, shape, odd=(), broken=(), draws=False):
        self.shape, self.odd, self.broken, self.draws = shape, odd, broken, draws
        self.reads = 0

    def __len__(self):
        return 100

    def __getitem__(self, i):
        self.reads += 1
        if i in self.broken:
            raise OSError(f"no sample {i}")
        noise = np.random.rand() if self.draws else 0.0
        shape = (2, *self.shape[1:]) if i in self.odd else self.shape
        return np.full(shape, i + noise, np.float32), i


def memory_for(layout):
    raw = np.full(4 * layout.nbytes(ROWS) + ALIGNMENT, 0xAA, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + 4 * layout.nbytes(ROWS)]


def work_on(layout, memory, start=1, stop=5):
    runs = [(0, [7, 8]), (1, [2, 3])]
    return Work(1, ROWS, start, stop, 0, len(memory), layout.packed, runs)


@pytest.mark.parametrize("size", SHAPE)
@pytest.mark.parametrize("draws", [False, True], ids=["plain", "random"])
def test_examples_become_rows(size, draws):
    dataset = Images(SHAPE[size], draws=draws)
    layout = layout_of(dataset[0])
    memory = memory_for(layout)
    done = Server(Cargo(dataset, None, 3, "raise"), lambda *_: None).serve(work_on(layout, memory), memory)
    assert isinstance(done, Done)
    assert done.form == "columns"
    x, t = layout.views(memory, ROWS)
    assert t[1:5].tolist() == [7, 8, 2, 3]
    assert x[1:5, 0, 0].astype(int).tolist() == [7, 8, 2, 3]
    assert (x[1:5] == x[1:5, :1, :1]).all()
    untouched = np.frombuffer(b"\xaa" * 4, np.float32)[0]
    assert (x[0] == untouched).all()
    assert (x[5] == untouched).all()


@pytest.mark.parametrize("size", SHAPE)
def test_one_of_another_shape_sends_them_as_they_are(size):
    dataset = Images(SHAPE[size], odd=(2,))
    layout = layout_of(dataset[0])
    memory = memory_for(layout)
    work = work_on(layout, memory)
    done = Server(Cargo(dataset, None, 3, "raise"), lambda *_: None).serve(work, memory)
    assert isinstance(done, Done)
    assert done.form == "examples"
    examples = unpacked(region_of(memory, layout, work.start, work.stop, ROWS), done.payload)
    assert [t for _, t in examples] == [7, 8, 2, 3]
    for x, t in examples:
        np.testing.assert_array_equal(x, dataset[t][0])


def test_big_samples_that_are_skipped_are_counted_once():
    for odd in (), (3,):
        dataset = Images(SHAPE["big"], odd=odd, broken=(8,))
        layout = layout_of(dataset[0])
        memory = memory_for(layout)
        done = Server(Cargo(dataset, None, 3, "skip"), lambda *_: None).serve(work_on(layout, memory), memory)
        assert isinstance(done, Done)
        assert [one[:3] for one in done.skipped] == [(0, 8, 9)]


def test_a_big_sample_that_raises_is_named():
    dataset = Images(SHAPE["big"], broken=(2,))
    layout = layout_of(dataset[0])
    memory = memory_for(layout)
    failed = Server(Cargo(dataset, None, 3, "raise"), lambda *_: None).serve(work_on(layout, memory), memory)
    assert isinstance(failed, Failed)
    assert (failed.row, failed.epoch, failed.index) == (3, 1, 2)


def test_big_samples_are_read_once():
    dataset = Images(SHAPE["big"])
    layout = layout_of(dataset[0])
    memory = memory_for(layout)
    server = Server(Cargo(dataset, None, 3, "raise"), lambda *_: None)
    before = dataset.reads
    server.serve(work_on(layout, memory), memory)
    assert dataset.reads - before == 4
