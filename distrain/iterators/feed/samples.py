"""What is known of the samples of a dataset: how they lie in memory, how big they are, and how long they take."""

from __future__ import annotations

from distrain.iterators.feed.layout import Layout, unpack_layout
from distrain.iterators.feed.protocol import Done

_PIECE_S = 0.005  # of work for a feeder; the messages for a piece take the rank 0.1 ms
_AGREEING = 32  # pieces in a row after which columns are tried again, the first time
_PIECES = 4  # a feeder has at most of one minibatch


class Samples:
    """Learned from the first answer, and from every answer after it.

    Args:
        least: bytes that a sample takes at least.

    Attributes:
        layout: of minibatches; None where samples make no columns.
        nbytes: of a sample in a slot; None before the first answer.
        seconds: for a sample, as lately measured; 0 before the first answer.
    """

    def __init__(self, least: int = 0) -> None:
        self.layout: Layout | None = None
        self.nbytes: int | None = None
        self.seconds = 0.0
        self._least = least
        self._patience = 0
        self._agreeing = 0  # pieces in a row that would fit the layout that is not used any more
        self._former: bytes = b""

    def note(self, done: Done, rows: int) -> None:
        """Takes note of an answer about so many rows."""
        if self.nbytes is None:
            if done.layout:
                self.layout = unpack_layout(done.layout)
                self.nbytes = max(self._least, self.layout.row_nbytes)
            else:
                self.nbytes = max(self._least, _with_room(done.spilled, rows))
        elif self.layout is None and self._former:
            self._agreeing = self._agreeing + 1 if done.layout == self._former else 0
            if self._agreeing == self._patience:
                self.layout, self._former = unpack_layout(done.layout), b""
        seconds = max(done.seconds / rows, 1e-9)
        self.seconds = 0.9 * self.seconds + 0.1 * seconds if self.seconds else seconds

    def give_up_layout(self) -> None:
        """An example did not fit, so columns are of no use, until many pieces in a row would have fitted them.

        Each time it takes twice as many: where odd ones come again and again, columns are not tried again and again.
        """
        if self.layout is not None:
            self._former, self._agreeing = self.layout.packed, 0
            self._patience = max(_AGREEING, 2 * self._patience)
            self.layout = None

    def note_spilled(self, nbytes: int, rows: int) -> None:
        """A minibatch of so many rows would have needed so many bytes."""
        self.nbytes = max(self.nbytes or 0, _with_room(nbytes, rows))

    def minibatch_nbytes(self, rows: int) -> int:
        """Bytes of the slot for a minibatch."""
        nbytes = (self.nbytes or 0) * rows
        return nbytes if self.layout is None else max(nbytes, self.layout.nbytes(rows))

    def piece_rows(self, rows: int, feeders: int) -> int:
        """Rows of a piece of a minibatch: a few milliseconds of work, and not more than a few pieces a feeder."""
        wanted = int(_PIECE_S / self.seconds) if self.seconds else rows
        least = -(-rows // (_PIECES * max(1, feeders)))
        return min(rows, max(1, least, wanted))


def _with_room(nbytes: int, rows: int) -> int:
    """Bytes a sample, with room for larger ones."""
    return -(-5 * nbytes // (4 * rows))
