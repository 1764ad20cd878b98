"""Time of `import distrain` in a fresh process, beside `import numpy` and, if it is there, `import torch`.

    python -m benchmarks.import_time [--rounds 11]

Whole processes are timed, the interpreter's start included, in turn; compiled files are there already, as after an
installation.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time

LIMIT_S = 0.2


def seconds(module: str) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, timeout=60, check=True)
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time of `import distrain`, beside that of numpy and torch.")
    parser.add_argument("--rounds", type=int, default=11, help="processes of each (default: 11)")
    args = parser.parse_args(arguments)
    modules = [name for name in ("sys", "numpy", "distrain", "torch") if importlib.util.find_spec(name)]
    times: dict[str, list[float]] = {name: [] for name in modules}
    for turn in range(args.rounds + 1):
        for name, measured in times.items():
            taken = seconds(name)
            if turn:  # the first compiles and fills caches
                measured.append(taken)
    for name, measured in times.items():
        print(f"import {name:10}{statistics.median(measured):.3f} s")
    ours = statistics.median(times["distrain"])
    missed = "" if ours <= LIMIT_S else "  MISSED"
    print(f"import distrain {ours:.3f} s, at most {LIMIT_S} s{missed}")


if __name__ == "__main__":
    main()
