"""Dropout (Srivastava et al., 2014), scaled while training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain import rng
from distrain.autograd import Primitive, Variable, as_variable, type_check
from distrain.backend import Array, get_array_module
from distrain.config import config
from distrain.errors import ArgumentError


class Dropout(Primitive):
    """See `dropout`.

    Args:
        ratio: probability that an element is dropped.
        mask: factors of an earlier call; None draws them.
    """

    def __init__(self, ratio: float, mask: Array | None = None) -> None:
        self.ratio, self.mask = ratio, mask

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        type_check.expect_float("dropout", "x", in_types[0])

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        if self.mask is None:
            xp = get_array_module(x)
            kept = rng.noise(x.shape, xp) >= self.ratio
            self.mask = xp.multiply(kept, x.dtype.type(1 / (1 - self.ratio)), dtype=x.dtype)
        return (x * self.mask,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (Dropout(self.ratio, self.mask).on(grad_outputs[0]),)


def dropout(x: Any, ratio: float = 0.5) -> Variable:
    """Sets elements to zero at random and scales the others by 1 / (1 - ratio), while `config.train` is on.

    The draw depends on the seed, the step and the sample's place in the minibatch, so a run gives the same numbers on
    any number of ranks.

    Args:
        x: any shape with the samples on axis 0, floating point.
        ratio: probability that an element is dropped, in [0, 1).

    Returns:
        Shape and dtype of x; x itself when not training.

    Raises:
        ArgumentError: the ratio is outside of [0, 1).
    """
    if not 0 <= ratio < 1:
        raise ArgumentError(f"dropout takes a ratio in [0, 1), not {ratio}")
    if not config.train or ratio == 0:
        return as_variable(x)
    return Dropout(ratio).apply1(x)
