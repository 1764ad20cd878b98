"""What trainings have left on disk: reading result folders, and reports about them for a browser."""

from distrain.results.entries import Entries as Entries
from distrain.results.entries import read_entries as read_entries
from distrain.results.report import as_page as as_page
from distrain.results.report import write_report as write_report
from distrain.results.run import Run as Run
from distrain.results.run import Snapshot as Snapshot
from distrain.results.run import read_run as read_run

__all__ = ["Entries", "Run", "Snapshot", "as_page", "read_entries", "read_run", "write_report"]
