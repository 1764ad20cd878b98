"""First numbers from uniform distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from distrain.backend import Array
from distrain.initializers.initializer import Initializer, fan, fans


class Uniform(Initializer):
    """Uniform distribution in `[-scale, scale)`."""

    def __init__(self, scale: float = 0.05, dtype: DTypeLike | None = None) -> None:
        self.scale = scale
        super().__init__(dtype)

    def __call__(self, array: Array) -> None:
        """Fills the array in place."""
        bound = self.bound(array.shape)
        array[...] = np.random.uniform(-bound, bound, array.shape)

    def bound(self, shape: tuple[int, ...]) -> float:
        """The largest absolute value for a parameter of that shape."""
        return self.scale


class LeCunUniform(Uniform):
    """Bound `scale * sqrt(3 / fan_in)`.

    References:
        Y. LeCun, L. Bottou, G. Orr, K.-R. Müller: Efficient BackProp, 1998, section 4.6.
    """

    def __init__(self, scale: float = 1.0, dtype: DTypeLike | None = None) -> None:
        super().__init__(scale, dtype)

    def bound(self, shape: tuple[int, ...]) -> float:
        """The largest absolute value for a parameter of that shape."""
        return float(self.scale * np.sqrt(3.0 / fans(shape)[0]))


class GlorotUniform(Uniform):
    """Bound `scale * sqrt(6 / (fan_in + fan_out))`.

    References:
        X. Glorot, Y. Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010.
    """

    def __init__(self, scale: float = 1.0, dtype: DTypeLike | None = None) -> None:
        super().__init__(scale, dtype)

    def bound(self, shape: tuple[int, ...]) -> float:
        """The largest absolute value for a parameter of that shape."""
        return float(self.scale * np.sqrt(6.0 / sum(fans(shape))))


class HeUniform(Uniform):
    """Bound `scale * sqrt(6 / fan)`, fan being `fan_in` or `fan_out`.

    References:
        K. He, X. Zhang, S. Ren, J. Sun: Delving Deep into Rectifiers, 2015, section 2.2.
    """

    def __init__(self, scale: float = 1.0, dtype: DTypeLike | None = None, fan_option: str = "fan_in") -> None:
        self.fan_option = fan_option
        super().__init__(scale, dtype)

    def bound(self, shape: tuple[int, ...]) -> float:
        """The largest absolute value for a parameter of that shape."""
        return float(self.scale * np.sqrt(6.0 / fan(shape, self.fan_option)))
