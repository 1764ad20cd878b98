"""`EmbedID`: a table of vectors."""

from __future__ import annotations

from typing import Any

from distrain.autograd import Parameter, Variable
from distrain.backend import Array
from distrain.functions.connection.embed_id import embed_id
from distrain.initializers import Normal, get_initializer
from distrain.links.link import Link


class EmbedID(Link):
    """Gives each id its vector.

    Args:
        in_size: number of ids.
        out_size: length of the vectors.
        initialW: initializer of `W`, shape (in_size, out_size); Normal(1) if None.
        ignore_label: id whose vector is zeros and is not trained; None for no such id.
    """

    def __init__(self, in_size: int, out_size: int, initialW: Any = None, ignore_label: int | None = None) -> None:
        super().__init__()
        self.ignore_label = ignore_label
        with self.init_scope():
            self.W = Parameter(get_initializer(initialW, Normal(1.0)), (in_size, out_size))

    def forward(self, x: Variable | Array) -> Variable:
        """Looks the ids up.

        Args:
            x: integers of any shape.

        Returns:
            shape `x.shape + (out_size,)`.
        """
        return embed_id(x, self.W, self.ignore_label)
