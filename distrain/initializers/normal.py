"""First numbers from normal distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from distrain.backend import Array
from distrain.initializers.initializer import Initializer, fan, fans


class Normal(Initializer):
    """Normal distribution with mean 0 and standard deviation `scale`."""

    def __init__(self, scale: float = 0.05, dtype: DTypeLike | None = None) -> None:
        self.scale = scale
        super().__init__(dtype)

    def __call__(self, array: Array) -> None:
        """Fills the array in place."""
        array[...] = np.random.normal(0.0, self.deviation(array.shape), array.shape)

    def deviation(self, shape: tuple[int, ...]) -> float:
        """The standard deviation for a parameter of that shape."""
        return self.scale


class LeCunNormal(Normal):
    """Standard deviation `scale * sqrt(1 / fan_in)`.

    References:
        Y. LeCun, L. Bottou, G. Orr, K.-R. Müller: Efficient BackProp, 1998, section 4.6.
    """

    def __init__(self, scale: float = 1.0, dtype: DTypeLike | None = None) -> None:
        super().__init__(scale, dtype)

    def deviation(self, shape: tuple[int, ...]) -> float:
        """The standard deviation for a parameter of that shape."""
        return float(self.scale * np.sqrt(1.0 / fans(shape)[0]))


class GlorotNormal(Normal):
    """Standard deviation `scale * sqrt(2 / (fan_in + fan_out))`.

    References:
        X. Glorot, Y. Bengio: Understanding the difficulty of training deep feedforward neural networks, 2010.
    """

    def __init__(self, scale: float = 1.0, dtype: DTypeLike | None = None) -> None:
        super().__init__(scale, dtype)

    def deviation(self, shape: tuple[int, ...]) -> float:
        """The standard deviation for a parameter of that shape."""
        return float(self.scale * np.sqrt(2.0 / sum(fans(shape))))


class HeNormal(Normal):
    """Standard deviation `scale * sqrt(2 / fan)`, fan being `fan_in` or `fan_out`.

    References:
        K. He, X. Zhang, S. Ren, J. Sun: Delving Deep into Rectifiers, 2015, equation 10.
    """

    def __init__(self, scale: float = 1.0, dtype: DTypeLike | None = None, fan_option: str = "fan_in") -> None:
        self.fan_option = fan_option
        super().__init__(scale, dtype)

    def deviation(self, shape: tuple[int, ...]) -> float:
        """The standard deviation for a parameter of that shape."""
        return float(self.scale * np.sqrt(2.0 / fan(shape, self.fan_option)))
