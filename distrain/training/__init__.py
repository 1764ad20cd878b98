"""Training: the loop, what one step is, and what happens in between."""

from distrain.training import extensions as extensions
from distrain.training import triggers as triggers
from distrain.training import updaters as updaters
from distrain.training.batch_size import BatchSizes as BatchSizes
from distrain.training.batch_size import find_batch_size as find_batch_size
from distrain.training.extension import PRIORITY_EDITOR as PRIORITY_EDITOR
from distrain.training.extension import PRIORITY_READER as PRIORITY_READER
from distrain.training.extension import PRIORITY_WRITER as PRIORITY_WRITER
from distrain.training.extension import Extension as Extension
from distrain.training.extension import make_extension as make_extension
from distrain.training.learning_rate import LearningRates as LearningRates
from distrain.training.learning_rate import find_learning_rate as find_learning_rate
from distrain.training.trainer import Trainer as Trainer
from distrain.training.triggers.trigger import get_trigger as get_trigger
from distrain.training.updater import Updater as Updater
from distrain.training.updaters.multiprocess import MultiprocessParallelUpdater as MultiprocessParallelUpdater
from distrain.training.updaters.parallel import ParallelUpdater as ParallelUpdater
from distrain.training.updaters.standard import StandardUpdater as StandardUpdater

__all__ = [
    "PRIORITY_EDITOR",
    "PRIORITY_READER",
    "PRIORITY_WRITER",
    "BatchSizes",
    "Extension",
    "LearningRates",
    "MultiprocessParallelUpdater",
    "ParallelUpdater",
    "StandardUpdater",
    "Trainer",
    "Updater",
    "extensions",
    "find_batch_size",
    "find_learning_rate",
    "get_trigger",
    "make_extension",
    "triggers",
    "updaters",
]
