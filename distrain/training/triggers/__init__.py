"""Triggers: when an extension runs, and when training stops."""

from distrain.training.triggers.interval import IntervalTrigger as IntervalTrigger

__all__ = ["IntervalTrigger"]
