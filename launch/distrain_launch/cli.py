"""The `distrain` command line."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence

from distrain.errors import ArgumentError, LaunchError, WorldError
from distrain_launch import bench, doctor, module
from distrain_launch.batch import submit
from distrain_launch.run import Request, run

_USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: the job's, or 2 if the job could not be started."""
    options = _parser().parse_args(argv)
    try:
        if hasattr(options, "start"):
            return int(options.start(options))
        return run(_request(options))
    except (LaunchError, ArgumentError, WorldError) as error:
        print(f"distrain: {error}", file=sys.stderr)
        return _USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distrain", description="Starts training scripts on one rank or on many.")
    parser.add_argument("--version", action="version", version=f"distrain {_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_run(commands.add_parser("run", help="start the ranks of a job on this machine or on several"))
    module.add_to(commands, "feed", "read samples for ranks on other hosts", "distrain.iterators.feed.remote")
    bench.add_to(commands)
    doctor.add_to(commands)
    module.add_to(commands, "report", "write an HTML page about trainings", "distrain.results")
    module.add_to(commands, "monitor", "follow trainings in the browser while they run", "distrain.results.monitor")
    submit.add_to(commands)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, metavar="N", help="number of ranks (default: one for each GPU, or core)")
    parser.add_argument(
        "--min-n",
        type=int,
        metavar="N",
        help="as few ranks are enough, if hosts or GPUs have vanished when the job is started again (default: all)",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="the job's seed; the script sees it as DISTRAIN_SEED")
    parser.add_argument(
        "--reproducible",
        action="store_true",
        help="the same bits on any number of ranks; the script sees DISTRAIN_REPRODUCIBLE=1",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="one step, each extension once, a snapshot, a summary; the script sees DISTRAIN_DRY_RUN=1",
    )
    parser.add_argument("--all-gpus", action="store_true", help="every rank sees every GPU (default: one of its own)")
    parser.add_argument("--ranks", metavar="LIST", help="ranks whose output is shown, as 0,3 (default: all)")
    parser.add_argument("--quiet", action="store_true", help="show no output but the report about a failure")
    parser.add_argument("--log-dir", metavar="DIR", help="write what each rank prints to DIR/rank-0.log and so on")
    parser.add_argument(
        "--shutdown-timeout",
        type=float,
        default=Request.shutdown_timeout,
        metavar="S",
        help="seconds from Ctrl-C to the end of ranks that do not end by themselves (default: %(default)g)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=Request.grace,
        metavar="S",
        help="seconds from SIGTERM to that end, in which a training saves itself (default: %(default)g)",
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=Request.max_restarts,
        metavar="N",
        help="start the job again after a failure, at most N times, from its last snapshot (default: %(default)d)",
    )
    parser.add_argument(
        "--restart-delay",
        type=float,
        default=Request.restart_delay,
        metavar="S",
        help="seconds before the first restart, doubled from one to the next (default: %(default)g)",
    )
    parser.add_argument("--mpiexec", metavar="PATH", help="the mpiexec to use (default: of this environment)")
    _add_hosts(parser)
    parser.add_argument("script", help="the training script")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="arguments of the script")


def _add_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hosts", metavar="LIST", help="hosts, each with a number of ranks, as a:4,b:4")
    parser.add_argument("--hostfile", metavar="FILE", help="the same from a file with a line for each host")
    parser.add_argument(
        "--launcher",
        choices=["auto", "mpiexec", "srun"],
        default="auto",
        help="who starts the ranks in an allocation of Slurm (default: srun on several nodes if it fits mpi4py's MPI)",
    )
    parser.add_argument("--oversubscribe", action="store_true", help="allow more ranks than the hosts have room for")


def _version() -> str:
    try:
        return importlib.metadata.version("distrain")
    except importlib.metadata.PackageNotFoundError:  # a source tree on PYTHONPATH
        return "(not installed)"


def _request(options: argparse.Namespace) -> Request:
    return Request(
        script=options.script,
        args=options.args,
        ranks=options.n,
        min_n=options.min_n,
        seed=options.seed,
        reproducible=options.reproducible,
        dry_run=options.dry_run,
        all_gpus=options.all_gpus,
        shown=options.ranks,
        quiet=options.quiet,
        log_dir=options.log_dir,
        shutdown_timeout=options.shutdown_timeout,
        grace=options.grace,
        max_restarts=options.max_restarts,
        restart_delay=options.restart_delay,
        mpiexec=options.mpiexec,
        hosts=options.hosts,
        hostfile=options.hostfile,
        launcher=options.launcher,
        oversubscribe=options.oversubscribe,
    )
