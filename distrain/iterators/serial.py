"""The iterator that reads samples in the training thread."""

from __future__ import annotations

from distrain.dataset.batch import Batch
from distrain.iterators.plan import Planned
from distrain.iterators.planned import PlannedIterator


class SerialIterator(PlannedIterator):
    """Minibatches of a dataset, read one after the other in this thread.

        train_iter = SerialIterator(train, 100)                                  # shuffled, without end
        test_iter = SerialIterator(test, 100, repeat=False, shuffle=False)       # once, the last one smaller

    `batch_size` counts samples of the whole job; each rank's `next()` gives its contiguous part. A rank for which the
    last minibatch has no sample gets the minibatch's first sample, with a weight of 0.

    Datasets in arrays (TupleDataset, DictDataset and parts of them) are read by column, in one step a batch. Others are
    read sample by sample; what they draw from `distrain.rng.sample_rng()`, `np.random` and `random` depends on the
    seed, the epoch and the sample alone (see `reading`). Arguments, attributes and errors are those of
    `PlannedIterator`.
    """

    def _read(self, planned: Planned) -> Batch:
        batch = self._collated(planned)
        return self._batch_of(planned, self._examples(planned)) if batch is None else batch
