"""Iterators: minibatches of a dataset, in an order that is a function of the seed and the epoch."""

from distrain.iterators.iterator import Iterator as Iterator
from distrain.iterators.multiprocess import MultiprocessIterator as MultiprocessIterator
from distrain.iterators.multiprocess import TimeoutWarning as TimeoutWarning
from distrain.iterators.multithread import MultithreadIterator as MultithreadIterator
from distrain.iterators.order_samplers import NoShuffleOrderSampler as NoShuffleOrderSampler
from distrain.iterators.order_samplers import OrderSampler as OrderSampler
from distrain.iterators.order_samplers import ShuffleOrderSampler as ShuffleOrderSampler
from distrain.iterators.reading import SkippedSampleWarning as SkippedSampleWarning
from distrain.iterators.serial import SerialIterator as SerialIterator

__all__ = [
    "Iterator",
    "MultiprocessIterator",
    "MultithreadIterator",
    "NoShuffleOrderSampler",
    "OrderSampler",
    "SerialIterator",
    "ShuffleOrderSampler",
    "SkippedSampleWarning",
    "TimeoutWarning",
]
