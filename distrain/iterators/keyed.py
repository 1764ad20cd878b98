"""A random permutation that is computed where it is asked for: no array of the length of the dataset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_BLOCK = 1 << 14  # positions computed at once: 3 ms now and then instead of 0.1 ms a minibatch
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class KeyedOrder:
    """The order of an epoch, as a keyed permutation of `0 … length - 1`.

    A Feistel network permutes the numbers of so many bits that `length` fits in; a number that falls outside is
    permuted again until it lies inside, fewer than two times on average (Black and Rogaway, "Ciphers with arbitrary
    finite domains", 2002). Any position costs the same, and nothing is kept but one block of positions.

    Args:
        length: samples of the epoch, at least 2.
        bits: gives the keys of the rounds.
    """

    def __init__(self, length: int, bits: np.random.BitGenerator) -> None:
        total = max(2, (length - 1).bit_length())
        self._length = length
        self._low_bits = np.uint64(total // 2)
        self._high_bits = np.uint64(total - total // 2)
        self._keys = bits.random_raw(2 * _ROUNDS).astype(np.uint64)
        self._block: tuple[int, NDArray[np.intp]] = (-1, np.empty(0, np.intp))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, span: slice) -> NDArray[np.intp]:
        """The sample indices at positions `start … stop - 1`, `0 <= start <= stop <= length`."""
        start, stop, _ = span.indices(self._length)
        pieces = []
        while start < stop:
            number = start // _BLOCK
            block = self._block_at(number)
            end = min(stop, (number + 1) * _BLOCK)
            pieces.append(block[start - number * _BLOCK : end - number * _BLOCK])
            start = end
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.intp), *pieces])

    def _block_at(self, number: int) -> NDArray[np.intp]:
        known, block = self._block
        if known != number:
            start = number * _BLOCK
            block = self.at(np.arange(start, min(start + _BLOCK, self._length), dtype=np.uint64))
            self._block = number, block
        return block

    def at(self, positions: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The sample indices at any positions, `(N,)`, each in `0 … length - 1`."""
        result = self._permuted(positions)
        outside = np.flatnonzero(result >= self._length)
        while len(outside):
            result[outside] = self._permuted(result[outside])
            outside = outside[result[outside] >= self._length]
        return result.astype(np.intp)

    def _permuted(self, x: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """One pass of the network over numbers of `low_bits + high_bits` bits."""
        low_bits, high_bits = self._low_bits, self._high_bits
        one = np.uint64(1)
        low_mask, high_mask = (one << low_bits) - one, (one << high_bits) - one
        high, low = x >> low_bits, x & low_mask
        for i in range(0, 2 * _ROUNDS, 2):  # each side is masked with a function of the other, which can be undone
            high = high ^ (_mixed(low, self._keys[i]) & high_mask)
            low = low ^ (_mixed(high, self._keys[i + 1]) & low_mask)
        return (high << low_bits) | low


def _mixed(x: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """A hash of each number: multiplication and shift, twice."""
    x = (x ^ key) * _FACTOR
    x ^= x >> np.uint64(32)
    x *= _FACTOR
    return x >> np.uint64(29)
