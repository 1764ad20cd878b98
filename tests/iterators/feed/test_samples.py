"""What is learned of samples: their size, their time, and whether they make columns."""

import numpy as np
import pytest

from distrain.iterators import MultiprocessIterator
from distrain.iterators.feed.layout import layout_of
from distrain.iterators.feed.protocol import Done
from distrain.iterators.feed.samples import Samples

WIDE = layout_of((np.zeros(100, np.float32), 1))
NARROW = layout_of((np.zeros(50, np.float32), 1))


def done(layout=WIDE, seconds=0.01, spilled=0):
    return Done(1, "examples", seconds, seconds, 0, b"" if layout is None else layout.packed, spilled, [])


def test_the_first_answer_tells_the_size():
    samples = Samples()
    assert samples.nbytes is None
    samples.note(done(), 4)
    assert samples.layout == WIDE
    assert samples.nbytes == 408
    assert samples.minibatch_nbytes(64) == WIDE.nbytes(64)
    samples.note(done(NARROW), 4)
    assert samples.layout == WIDE


def test_a_sample_takes_at_least_what_was_asked_for():
    samples = Samples(least=1000)
    samples.note(done(), 1)
    assert samples.minibatch_nbytes(8) == 8000


def test_without_columns_there_is_room_for_larger_ones():
    samples = Samples()
    samples.note(done(None, spilled=400), 4)
    assert (samples.layout, samples.nbytes) == (None, 125)
    samples.note_spilled(800, 4)
    assert samples.nbytes == 250


@pytest.mark.parametrize(("seconds", "rows"), [(1e-6, 100), (1e-3, 5), (1.0, 13)])
def test_pieces_take_a_few_milliseconds(seconds, rows):
    samples = Samples()
    samples.note(done(seconds=seconds), 1)
    assert samples.piece_rows(100, 2) == max(rows, 13)


def test_columns_come_back_when_samples_agree_again_and_later_each_time():
    samples = Samples()
    samples.note(done(), 1)
    needed = []
    for _ in range(3):
        samples.give_up_layout()
        samples.give_up_layout()  # the rest of the pieces that were out
        assert samples.layout is None
        for _ in range(10):
            samples.note(done(), 1)
        samples.note(done(NARROW), 1)  # not yet: this one is odd
        needed.append(0)
        while samples.layout is None:
            samples.note(done(), 1)
            needed[-1] += 1
            assert needed[-1] < 1000
        assert samples.layout == WIDE
    assert needed == [32, 64, 128]


class OneOdd:
    """All of one shape, but for sample 40."""

    def __len__(self):
        return 4000

    def __getitem__(self, i):
        return np.full(7 if i == 40 else 5, i, np.float32), i


def test_after_an_odd_sample_minibatches_are_arrays_again():
    iterator = MultiprocessIterator(OneOdd(), 8, shuffle=False, repeat=False, n_processes=2)
    try:
        is_array = []
        for batch in iterator:
            is_array.append(batch.columns is not None)
            for x, t in batch:
                np.testing.assert_array_equal(x, OneOdd()[int(t)][0])
            del x, t
    finally:
        iterator.finalize()
    assert len(is_array) == 500
    assert not is_array[5]
    assert all(is_array[:5])
    assert all(is_array[200:])
