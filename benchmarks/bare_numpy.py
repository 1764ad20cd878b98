"""The yardstick: the training of a multilayer perceptron written by hand in NumPy, for this one network.

Parameters, gradients and moments are flat arrays, every result goes into memory that is already there, and nothing is
checked. It does what a training loop must do and no more: gather a random batch, forward, loss, accuracy, backward,
Adam, and the means of loss and accuracy over 100 iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

ALPHA, BETA1, BETA2, EPS = 0.001, 0.9, 0.999, 1e-8
SMALLEST = np.finfo(np.float32).tiny  # that is not denormal


def train(
    x: np.ndarray,
    t: np.ndarray,
    units: int,
    batch: int,
    turn: int,
    next_turn: Callable[[], None],
    exchange: Callable[[np.ndarray], None] | None = None,
) -> None:
    """Trains n_in-units-units-10 without end.

    Args:
        x: (N, n_in) float32; N is a multiple of `batch`.
        t: (N,) int32 labels, 0 … 9.
        units: of both hidden layers.
        batch: samples of a minibatch.
        turn: iterations after which `next_turn` is called.
        next_turn: see `turns.serve`.
        exchange: takes the gradient to other ranks and back, in place.
    """
    rng = np.random.default_rng(0)
    sizes = [x.shape[1], units, units, 10]
    shapes = [shape for n, m in zip(sizes, sizes[1:], strict=False) for shape in ((m, n), (m,))]
    total = sum(map(math.prod, shapes))
    w, g, m, v, a = (np.zeros(total, np.float32) for _ in range(5))
    W1, b1, W2, b2, W3, b3 = _views(w, shapes)
    gW1, gb1, gW2, gb2, gW3, gb3 = _views(g, shapes)
    for W in (W1, W2, W3):
        W[...] = rng.standard_normal(W.shape, np.float32) / math.sqrt(W.shape[1])

    xb, tb = np.empty((batch, x.shape[1]), x.dtype), np.empty(batch, t.dtype)
    h1, h2, gh1, gh2 = (np.empty((batch, units), np.float32) for _ in range(4))
    mask = np.empty((batch, units), bool)
    y, column = np.empty((batch, 10), np.float32), np.empty((batch, 1), np.float32)
    y_flat, row_starts = y.reshape(-1), np.arange(0, batch * 10, 10)
    log: list[tuple[float, float]] = []
    loss_sum = accuracy_sum = 0.0
    step = 0
    next_turn()
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            rows = order[start : start + batch]
            x.take(rows, 0, xb, "clip")  # without "clip" NumPy gathers into a buffer first
            t.take(rows, 0, tb, "clip")
            # Forward
            np.dot(xb, W1.T, h1)
            h1 += b1
            np.maximum(h1, 0, out=h1)
            np.dot(h1, W2.T, h2)
            h2 += b2
            np.maximum(h2, 0, out=h2)
            np.dot(h2, W3.T, y)
            y += b3
            # Loss and accuracy
            places = row_starts + tb
            accuracy = np.count_nonzero(y.argmax(1) == tb) / batch
            y -= y.max(1, column, keepdims=True)
            picked = y_flat.take(places)
            np.exp(y, y)
            y.sum(1, None, column, keepdims=True)
            loss = float(np.log(column).sum() - picked.sum()) / batch
            # Backward
            y /= column
            y_flat[places] -= 1
            y *= np.float32(1 / batch)
            np.dot(y.T, h2, gW3)
            y.sum(0, None, gb3)
            np.dot(y, W3, gh2)
            np.greater(h2, 0, mask)
            gh2 *= mask
            np.dot(gh2.T, h1, gW2)
            gh2.sum(0, None, gb2)
            np.dot(gh2, W2, gh1)
            np.greater(h1, 0, mask)
            gh1 *= mask
            np.dot(gh1.T, xb, gW1)
            gh1.sum(0, None, gb1)
            if exchange is not None:
                exchange(g)
            # Adam
            step += 1
            np.subtract(g, m, a)
            a *= 1 - BETA1
            m += a
            np.multiply(g, g, a)
            a -= v
            a *= 1 - BETA2
            v += a
            np.sqrt(v, a)
            a += EPS
            np.divide(m, a, a)
            a *= ALPHA * math.sqrt(1 - BETA2**step) / (1 - BETA1**step)
            w -= a
            if step % 64 == 0:  # moments of dead units decay to denormal numbers, with which most CPUs are slow
                for state in (m, v):
                    np.abs(state, a)
                    state *= a >= SMALLEST
            # Bookkeeping
            loss_sum += loss
            accuracy_sum += accuracy
            if step % 100 == 0:
                log.append((loss_sum / 100, accuracy_sum / 100))
                loss_sum = accuracy_sum = 0.0
            if step % turn == 0:
                next_turn()


def _views(flat: np.ndarray, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    views, start = [], 0
    for shape in shapes:
        views.append(flat[start : start + math.prod(shape)].reshape(shape))
        start += math.prod(shape)
    return views
