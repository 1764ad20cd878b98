"""Updaters: what one step of training is."""

from distrain.training.updaters.multiprocess import MultiprocessParallelUpdater as MultiprocessParallelUpdater
from distrain.training.updaters.parallel import ParallelUpdater as ParallelUpdater
from distrain.training.updaters.standard import StandardUpdater as StandardUpdater

__all__ = ["MultiprocessParallelUpdater", "ParallelUpdater", "StandardUpdater"]
