"""A minibatch before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from distrain import minibatch
from distrain.iterators import order


class Planned(NamedTuple):
    """One minibatch before it is read.

    Attributes:
        cursor: before it, `(epoch, position)`.
        step: of the job, with the cursor after it.
        spans: this rank's samples, by position in the orders of their epochs.
        orders: the orders of these epochs.
        share: this rank's part of the minibatch; None where each rank's minibatches are its own.
    """

    cursor: tuple[int, int]
    step: order.Step
    spans: tuple[order.Span, ...]
    orders: Mapping[int, order.Order | None]
    share: minibatch.Share | None

    @property
    def runs(self) -> list[tuple[int, list[int]]]:
        """This rank's samples by index, `(epoch, indices)` for each epoch in turn."""
        return [(span.epoch, order.indices((span,), self.orders).tolist()) for span in self.spans]

    @property
    def orders_after(self) -> Mapping[int, order.Order | None]:
        """The orders that the minibatch after this one starts with."""
        orders, epoch = self.orders, self.step.epoch
        return orders if len(orders) == 1 else {epoch: orders[epoch]}
