"""The iterator that reads samples in the training thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distrain.dataset.batch import Batch
from distrain.dataset.columns import columns_at
from distrain.errors import DatasetError
from distrain.iterators import order, seats
from distrain.iterators.planned import PlannedIterator
from distrain.minibatch import Share


class SerialIterator(PlannedIterator):
    """Minibatches of a dataset, read one after the other in this thread.

        train_iter = SerialIterator(train, 100)                                  # shuffled, without end
        test_iter = SerialIterator(test, 100, repeat=False, shuffle=False)       # once, the last one smaller

    `batch_size` counts samples of the whole job; each rank's `next()` gives its contiguous part. A rank for which the
    last minibatch has no sample gets the minibatch's first sample, with a weight of 0.

    Datasets in arrays (TupleDataset, DictDataset and parts of them) are read by column, in one step a batch. Others are
    read sample by sample; what they draw from `np.random` and `random` depends on the seed, the epoch and the sample
    alone. Arguments, attributes and errors are those of `PlannedIterator`.
    """

    def _read(
        self, spans: tuple[order.Span, ...], orders: Mapping[int, order.Order | None], mine: Share | None
    ) -> Batch:
        indices = order.indices(spans, orders)
        dataset = self.dataset
        columns = columns_at(dataset, indices)
        if columns is not None:
            batch = Batch(columns=columns, share=mine, indices=indices)
            if len(batch) != len(indices):
                raise DatasetError(
                    f"columns_at of {type(dataset).__name__} gave {len(batch)} samples for {len(indices)} indices"
                )
            return batch
        if type(dataset) in (list, tuple):
            return Batch([dataset[i] for i in indices.tolist()], share=mine, indices=indices)
        return Batch(self._examples(spans, orders), share=mine, indices=indices)

    def _examples(self, spans: tuple[order.Span, ...], orders: Mapping[int, order.Order | None]) -> list[Any]:
        dataset, seed = self.dataset, self._known_seed()
        examples = []
        with seats.kept():
            for span in spans:
                for index in order.indices((span,), orders).tolist():
                    seats.sit(seed, span.epoch, index)
                    try:
                        examples.append(dataset[index])
                    except Exception as error:
                        error.add_note(f"reading sample {index} of {type(dataset).__name__} (epoch {span.epoch})")
                        raise
        return examples
