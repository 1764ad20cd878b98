"""Triggers: when an extension runs, and when training stops."""

from distrain.training.triggers.best_value import BestValueTrigger as BestValueTrigger
from distrain.training.triggers.best_value import MaxValueTrigger as MaxValueTrigger
from distrain.training.triggers.best_value import MinValueTrigger as MinValueTrigger
from distrain.training.triggers.combination import AndTrigger as AndTrigger
from distrain.training.triggers.combination import OrTrigger as OrTrigger
from distrain.training.triggers.early_stopping import EarlyStoppingTrigger as EarlyStoppingTrigger
from distrain.training.triggers.interval import IntervalTrigger as IntervalTrigger
from distrain.training.triggers.manual_schedule import ManualScheduleTrigger as ManualScheduleTrigger
from distrain.training.triggers.once import OnceTrigger as OnceTrigger
from distrain.training.triggers.time import TimeTrigger as TimeTrigger

__all__ = [
    "AndTrigger",
    "BestValueTrigger",
    "EarlyStoppingTrigger",
    "IntervalTrigger",
    "ManualScheduleTrigger",
    "MaxValueTrigger",
    "MinValueTrigger",
    "OnceTrigger",
    "OrTrigger",
    "TimeTrigger",
]
