"""Randomness as a function of position: every draw is named by what it is for, never by what was drawn before.

The job has one seed. A stream is a Philox counter generator whose key is the seed and a position, such as
("order", epoch) or ("init", ordinal of the parameter); it gives the same numbers on every rank, in any order of use
and after any restart. `noise` draws for the samples of the running minibatch in such a way that a rank gets exactly
its part of the array that one process would have drawn. `sample_rng` draws for the sample that a dataset is reading.

The seed comes from `set_seed`, else from the variable DISTRAIN_SEED, else it is drawn once from NumPy's global
generator (on rank 0, and shared), so that an old script's `np.random.seed(0)` still makes a run repeatable.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain import minibatch
from distrain.env import rank_info
from distrain.errors import ArgumentError

_MAX_SEED = 2**63


class _Job:
    seed: int | None = None
    share: Callable[[int], int] | None = None  # set by distrain.comm: gives every rank rank 0's number
    ordinals = itertools.count()


class _Noise(threading.local):
    share: object = None
    calls = 0  # since that share was announced
    free_calls = 0  # outside of any minibatch


_noise = _Noise()


class _Sample(threading.local):
    """The sample that this thread is reading, and the generator that was last made ready for one."""

    position: tuple[int, int, int] | None = None  # seed, epoch, index
    ready_for: tuple[int, int, int] | None = None
    generator: np.random.Generator | None = None
    calls = 0  # outside of any sample


_sample = _Sample()


def set_seed(seed: int) -> None:
    """Sets the job's seed; call it before models and iterators are made, with one value on all ranks.

    Raises:
        ArgumentError: the seed is not an integer in 0 … 2**63 - 1.
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < _MAX_SEED:
        raise ArgumentError(f"the seed must be an integer in 0 … 2**63 - 1, not {seed!r}")
    _Job.seed = int(seed)
    _Job.ordinals = itertools.count()


def seed() -> int:
    """The job's seed, the same on every rank; chosen when first asked for."""
    if _Job.seed is None:
        _Job.seed = _first_seed()
    return _Job.seed


def _first_seed() -> int:
    given = os.environ.get("DISTRAIN_SEED")
    if given is not None:
        if not given.isdecimal() or int(given) >= _MAX_SEED:
            raise ArgumentError(f"DISTRAIN_SEED must be an integer in 0 … 2**63 - 1, not {given!r}")
        return int(given)
    drawn = int(np.random.randint(0, 2**31 - 1))
    return drawn if _Job.share is None else _Job.share(drawn)


def share_through(share: Callable[[int], int] | None) -> None:
    """Tells how a drawn seed reaches the other ranks: a function from this rank's number to rank 0's."""
    _Job.share = share


def next_ordinal() -> int:
    """A number for a thing that is created in the same order on every rank, such as a parameter."""
    return next(_Job.ordinals)


def _key(position: tuple[int | str, ...]) -> NDArray[np.uint64]:
    return _hashed((seed(), *position))


def _hashed(position: tuple[int | str, ...]) -> NDArray[np.uint64]:
    return np.frombuffer(hashlib.blake2b(repr(position).encode(), digest_size=16).digest(), np.uint64)


def stream(*position: int | str) -> np.random.Generator:
    """A generator of its own for a position, such as `stream("order", epoch)`."""
    return np.random.Generator(np.random.Philox(key=_key(position)))


def at_sample(position: tuple[int, int, int] | None) -> None:
    """Says which `(seed, epoch, index)` this thread reads from now on; None when it reads none."""
    _sample.position, _sample.ready_for = position, None  # the same sample read again starts again, too


def sample_rng() -> np.random.Generator:
    """The generator of the sample that a dataset is reading: for random augmentation in `__getitem__`.

        def __getitem__(self, i):
            top, left = distrain.rng.sample_rng().integers(0, 32, 2)

    Its numbers depend on the seed, the epoch and the index of the sample alone, so they are the same in any process,
    at any number of ranks and after any restart. It is good until the next sample is read; within one sample every
    call gives the same generator, which goes on drawing. Where no iterator is reading, each call gives another one, by
    the job's seed and the number of such calls.
    """
    position = _sample.position
    if position is None:
        _sample.calls += 1
        return stream("no sample", _sample.calls)
    generator = _sample.generator
    if generator is None:
        generator = _sample.generator = np.random.Generator(np.random.Philox())
    if position is not _sample.ready_for:
        _sample.ready_for = position
        _set_at_sample(generator.bit_generator, *position)
    return generator


def _set_at_sample(bits: Any, seed: int, epoch: int, index: int) -> None:
    """Puts a Philox generator to the start of a sample's numbers, at a third of the price of a new one."""
    state = {"counter": np.array([0, 0, index, 0], np.uint64), "key": _epoch_key(seed, epoch)}
    bits.state = {
        "bit_generator": "Philox",
        "state": state,
        "buffer": _NO_NUMBERS,
        "buffer_pos": len(_NO_NUMBERS),
        "has_uint32": 0,
        "uinteger": 0,
    }


_NO_NUMBERS = np.zeros(4, np.uint64)


@lru_cache(maxsize=16)
def _epoch_key(seed: int, epoch: int) -> NDArray[np.uint64]:
    return _hashed(("sample", seed, epoch))


@contextmanager
def legacy_seated(*position: int | str) -> Iterator[None]:
    """Seats `np.random` and `random` at a position for the length of a `with` block, and puts them back after it."""
    word = int(_key(("legacy", *position))[0])
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed([word & 0xFFFFFFFF, word >> 32])
    random.seed(word)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _next_call(share: minibatch.Share | None) -> int:
    if share is None:
        _noise.free_calls += 1
        return _noise.free_calls - 1
    if share is not _noise.share:
        _noise.share, _noise.calls = share, 0
    _noise.calls += 1
    return _noise.calls - 1


def _numbers_a_sample(shape: tuple[int, ...], samples: int) -> int:
    numbers = math.prod(shape[1:])
    rows = shape[0] if shape else 1
    return numbers * (rows // samples) if samples and rows % samples == 0 else numbers  # (N * T, …) has T rows each


_BLOCK = 8  # float32 numbers in one 256-bit block of Philox4x64


def noise(shape: tuple[int, ...], xp: Any = np) -> Any:
    """Uniform float32 numbers in [0, 1) for the samples of the running minibatch.

    Inside a step of a training loop (an iterator has handed out a batch) the numbers of sample i depend on the seed,
    the step, how often noise was asked for in this step, and i alone; a rank draws its part of the job's array
    directly. Elsewhere they depend on the seed, the rank, and how often noise was asked for.

    Args:
        shape: shape of the result; axis 0 is the samples of this rank, or several rows for each of them.
        xp: the array module of the result. The numbers are drawn on the host.

    Returns:
        float32 array of that shape.
    """
    share = minibatch.current()
    call = _next_call(share)
    first = 0
    if share is None or (share.ranks is not None and share.ranks < rank_info().size):  # a batch of this rank's own
        step = -1 if share is None else share.step
        bits = np.random.Philox(key=_key(("own noise", rank_info().rank, step, call)))
    else:
        bits = np.random.Philox(key=_key(("noise", share.step, call)))
        first = share.start * _numbers_a_sample(shape, share.count)
        bits.advance(first // _BLOCK)
    skip = first % _BLOCK
    count = math.prod(shape)
    numbers = np.random.Generator(bits).random(skip + count, dtype=np.float32)[skip:].reshape(shape)
    return numbers if xp is np else xp.asarray(numbers)
