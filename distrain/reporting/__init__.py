"""Reported values: where they go, and their means over iterations and ranks; how the ranks are."""

from __future__ import annotations

from distrain.reporting.detached import Detached as Detached
from distrain.reporting.rank_states import RankState as RankState
from distrain.reporting.reporter import Reporter as Reporter
from distrain.reporting.reporter import get_current_reporter as get_current_reporter
from distrain.reporting.reporter import report as report
from distrain.reporting.reporter import report_scope as report_scope
from distrain.reporting.summary import DictSummary as DictSummary
from distrain.reporting.summary import Summary as Summary
from distrain.reporting.summary import Sums as Sums

__all__ = [
    "Detached",
    "DictSummary",
    "RankState",
    "Reporter",
    "Summary",
    "Sums",
    "get_current_reporter",
    "report",
    "report_scope",
]
