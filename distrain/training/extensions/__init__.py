"""Extensions: evaluation, logs, tables, progress, snapshots."""

from distrain.training.extensions.dump_graph import DumpGraph as DumpGraph
from distrain.training.extensions.dump_graph import dump_graph as dump_graph
from distrain.training.extensions.evaluator import Evaluator as Evaluator
from distrain.training.extensions.fail_on_non_number import FailOnNonNumber as FailOnNonNumber
from distrain.training.extensions.log_report import LogReport as LogReport
from distrain.training.extensions.observe import observe_lr as observe_lr
from distrain.training.extensions.observe import observe_value as observe_value
from distrain.training.extensions.print_report import PrintReport as PrintReport
from distrain.training.extensions.progress_bar import ProgressBar as ProgressBar
from distrain.training.extensions.snapshot import snapshot as snapshot
from distrain.training.extensions.snapshot import snapshot_object as snapshot_object

__all__ = [
    "DumpGraph",
    "Evaluator",
    "FailOnNonNumber",
    "LogReport",
    "PrintReport",
    "ProgressBar",
    "dump_graph",
    "observe_lr",
    "observe_value",
    "snapshot",
    "snapshot_object",
]
