"""`distrain report`: the command line of reports."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from distrain.errors import DistrainError
from distrain.results.report import write_report

_USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a report and returns the exit code: 0, or 2 if there is nothing to read or nowhere to write."""
    parser = argparse.ArgumentParser(
        prog="distrain report",
        description="Writes one HTML file with curves, settings and events of one training or of several.",
    )
    parser.add_argument("results", nargs="+", metavar="RESULT", help="a result folder, or the log in it")
    parser.add_argument(
        "-o", "--output", default="report.html", metavar="FILE", help="the file to write (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        runs = write_report(options.results, options.output)
    except DistrainError as error:
        print(f"distrain report: {error}", file=sys.stderr)
        return _USAGE_ERROR
    for run in runs:
        for problem in run.problems:
            print(f"{run.path}: {problem}", file=sys.stderr)
    entries = sum(run.entries.total for run in runs)
    size = os.path.getsize(options.output)
    counts = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, {entries} {'entry' if entries == 1 else 'entries'}"
    print(f"{options.output}: {counts}, {size / 1000:,.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
