"""`Linear`: a fully connected layer."""

from __future__ import annotations

from typing import Any

from distrain.autograd import Parameter, Variable
from distrain.backend import Array
from distrain.errors import ArgumentError
from distrain.functions.connection.linear import linear
from distrain.initializers import LeCunNormal, Zero, get_initializer
from distrain.links.link import Link


class Linear(Link):
    """`y = x W^T + b`.

    Args:
        in_size: numbers of inputs; None: learned from the first input. With one size given, it is `out_size`.
        out_size: numbers of outputs.
        nobias: no `b`.
        initialW: initializer of `W`, shape (out_size, in_size); LeCunNormal if None.
        initial_bias: initializer of `b`, shape (out_size,); zeros if None.
    """

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        nobias: bool = False,
        initialW: Any = None,
        initial_bias: Any = None,
    ) -> None:
        super().__init__()
        if out_size is None:
            in_size, out_size = None, in_size
        if out_size is None:
            raise ArgumentError("Linear needs the number of its outputs: Linear(None, out_size) or Linear(out_size)")
        self.in_size, self.out_size = in_size, out_size
        self.b: Parameter | None = None
        with self.init_scope():
            shape = None if in_size is None else (out_size, in_size)
            self.W = Parameter(get_initializer(initialW, LeCunNormal()), shape)
            if not nobias:
                self.b = Parameter(get_initializer(initial_bias, Zero()), (out_size,))

    def forward(self, x: Variable | Array, n_batch_axes: int = 1) -> Variable:
        """Applies the layer.

        Args:
            x: shape (N, in_size); further axes after the first `n_batch_axes` are joined.
            n_batch_axes: number of axes that stay.

        Returns:
            shape (N, out_size).
        """
        if not self.W.is_initialized and x.ndim > n_batch_axes and x.dtype.kind == "f":  # `linear` refuses others
            in_size = 1
            for n in x.shape[n_batch_axes:]:
                in_size *= n
            self.in_size = in_size
            self.W.initialize((self.out_size, in_size))
        return linear(x, self.W, self.b, n_batch_axes)
