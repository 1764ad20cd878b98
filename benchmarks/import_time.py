"""Time of `import distrain` in a fresh process, beside that of numpy, of what a script imports, and of torch.

    python -m benchmarks.import_time [--rounds 11]

Whole processes are timed, in turn, and the time of one that imports nothing is taken off; compiled files are there
already, as after an installation.
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
IMPORTS = {
    "nothing": "pass",
    "numpy": "import numpy",
    "distrain": "import distrain",
    "distrain, functions, links, extensions": (
        "import distrain.functions, distrain.links; from distrain.training import extensions"
    ),
    "torch": "import torch",
}


def seconds(code: str) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=True)
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time of `import distrain`, beside that of numpy and torch.")
    parser.add_argument("--rounds", type=int, default=11, help="processes of each (default: 11)")
    args = parser.parse_args(arguments)
    skipped = () if importlib.util.find_spec("torch") else ("torch",)
    times: dict[str, list[float]] = {name: [] for name in IMPORTS if name not in skipped}
    for turn in range(args.rounds + 1):
        for name, measured in times.items():
            taken = seconds(IMPORTS[name])
            if turn:  # the first compiles and fills caches
                measured.append(taken)
    start = statistics.median(times.pop("nothing"))
    print(f"start of the interpreter {start:.3f} s, and then")
    for name, measured in times.items():
        took = statistics.median(measured) - start
        verdict = ""
        if name == "distrain":
            verdict = f"  <= {LIMIT_S}" if took <= LIMIT_S else f"  <= {LIMIT_S} MISSED"
        print(f"import {name:40}{took:.3f} s{verdict}")


if __name__ == "__main__":
    main()
