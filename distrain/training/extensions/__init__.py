"""Extensions: evaluation, logs, tables, plots, progress, schedules, snapshots."""

from distrain.training.extensions.dump_graph import DumpGraph as DumpGraph
from distrain.training.extensions.dump_graph import dump_graph as dump_graph
from distrain.training.extensions.ema import ExponentialMovingAverage as ExponentialMovingAverage
from distrain.training.extensions.evaluator import Evaluator as Evaluator
from distrain.training.extensions.fail_on_non_number import FailOnNonNumber as FailOnNonNumber
from distrain.training.extensions.gradient_report import GradientReport as GradientReport
from distrain.training.extensions.live_view import LiveView as LiveView
from distrain.training.extensions.log_report import LogReport as LogReport
from distrain.training.extensions.micro_average import MicroAverage as MicroAverage
from distrain.training.extensions.mlflow_logger import MLflowLogger as MLflowLogger
from distrain.training.extensions.observe import observe_lr as observe_lr
from distrain.training.extensions.observe import observe_value as observe_value
from distrain.training.extensions.parameter_statistics import ParameterStatistics as ParameterStatistics
from distrain.training.extensions.plot_report import PlotReport as PlotReport
from distrain.training.extensions.prediction_evaluator import PredictionEvaluator as PredictionEvaluator
from distrain.training.extensions.print_report import PrintReport as PrintReport
from distrain.training.extensions.progress_bar import ProgressBar as ProgressBar
from distrain.training.extensions.run_record import RunRecord as RunRecord
from distrain.training.extensions.shift import Shift as Shift
from distrain.training.extensions.shift_curves import CosineShift as CosineShift
from distrain.training.extensions.shift_curves import ExponentialShift as ExponentialShift
from distrain.training.extensions.shift_curves import InverseShift as InverseShift
from distrain.training.extensions.shift_curves import LinearShift as LinearShift
from distrain.training.extensions.shift_curves import MultistepShift as MultistepShift
from distrain.training.extensions.shift_curves import OneCycleShift as OneCycleShift
from distrain.training.extensions.shift_curves import PolynomialShift as PolynomialShift
from distrain.training.extensions.shift_curves import StepShift as StepShift
from distrain.training.extensions.shift_curves import WarmupShift as WarmupShift
from distrain.training.extensions.snapshot import snapshot as snapshot
from distrain.training.extensions.snapshot import snapshot_object as snapshot_object
from distrain.training.extensions.tensor_board import TensorBoard as TensorBoard
from distrain.training.extensions.throughput import Throughput as Throughput
from distrain.training.extensions.trace import Trace as Trace
from distrain.training.extensions.unchain_variables import unchain_variables as unchain_variables
from distrain.training.extensions.variable_statistics_plot import VariableStatisticsPlot as VariableStatisticsPlot
from distrain.training.extensions.wandb_logger import WandbLogger as WandbLogger

__all__ = [
    "CosineShift",
    "DumpGraph",
    "Evaluator",
    "ExponentialMovingAverage",
    "ExponentialShift",
    "FailOnNonNumber",
    "GradientReport",
    "InverseShift",
    "LinearShift",
    "LiveView",
    "LogReport",
    "MLflowLogger",
    "MicroAverage",
    "MultistepShift",
    "OneCycleShift",
    "ParameterStatistics",
    "PlotReport",
    "PolynomialShift",
    "PredictionEvaluator",
    "PrintReport",
    "ProgressBar",
    "RunRecord",
    "Shift",
    "StepShift",
    "TensorBoard",
    "Throughput",
    "Trace",
    "VariableStatisticsPlot",
    "WandbLogger",
    "WarmupShift",
    "dump_graph",
    "observe_lr",
    "observe_value",
    "snapshot",
    "snapshot_object",
    "unchain_variables",
]
