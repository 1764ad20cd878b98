"""Fair timing on a machine that does other things too: contestants in processes of their own take turns.

Each contestant works only when it is its turn, so that whatever else the machine does hits all alike. All start anew a
few times: where its memory happens to lie can make a process a fifth slower for as long as it lives. Figures are
medians over all turns, and what is judged is the ratio of two medians of one run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import distrain.env  # noqa: F401  sets how long OpenBLAS's threads spin, which contestants inherit

STARTS = 4
PAUSE = 0.1  # seconds between turns: the threads of BLAS libraries go on spinning for a while
WARM_UP = 2  # turns that do not count: caches fill, lazily made buffers appear, the clock of the cores goes up


def thread_limits(threads: int) -> dict[str, str]:
    """The variables that give a process that many BLAS threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def serve(iterations: int) -> Callable[[], None]:
    """Runs in a contestant: gives the function that it calls after every `iterations` iterations.

    The function answers the question for the turn that is over (seconds an iteration and peak memory in bytes) and
    waits for the next one; the process ends when nobody asks any more. The first call only waits.
    """
    start = 0.0

    def next_turn() -> None:
        nonlocal start
        if start:
            seconds = (time.perf_counter() - start) / iterations
            print(json.dumps({"seconds": seconds, "peak": peak_memory()}), file=answers, flush=True)
        if not sys.stdin.readline():
            os._exit(0)
        start = time.perf_counter()

    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    return next_turn


def peak_memory() -> int:
    """The most memory that this process has held, in bytes; 0 where /proc does not tell."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return 0


class Contestant:
    """A process that works when it is asked.

    Attributes:
        seconds: of one iteration, one number a turn.
        peak: memory in bytes after the last turn.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.seconds: list[float] = []
        self.peak = 0
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def turn(self) -> None:
        """Lets it work for one turn and notes how long that took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self._process.args))} ended early; its error stands above")  # type: ignore[arg-type]
        answer: dict[str, Any] = json.loads(line)
        self.seconds.append(answer["seconds"])
        self.peak = answer["peak"]
        time.sleep(PAUSE)

    def close(self) -> None:
        """Ends the process and what it has started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Result:
    """What a contestant has shown in all its turns.

    Attributes:
        median: seconds of one iteration, without the turns that warm up.
        peak: the most memory, in bytes, of its processes.
    """

    def __init__(self, contestants: Sequence[Contestant]) -> None:
        self.median = statistics.median([s for one in contestants for s in one.seconds[WARM_UP:]])
        self.peak = max(one.peak for one in contestants)


def take_turns(commands: Mapping[str, Sequence[str]], threads: int, rounds: int) -> dict[str, Result]:
    """Lets contestants work in turn, `rounds` times each and more to warm up.

    Args:
        commands: arguments of the interpreter, by the contestant's name.
        threads: BLAS threads of each.
        rounds: turns that count, spread over `STARTS` processes each.
    """
    every: dict[str, list[Contestant]] = {name: [] for name in commands}
    for _ in range(STARTS):
        running: list[Contestant] = []
        try:
            for name, command in commands.items():
                running.append(Contestant(command, thread_limits(threads)))
                every[name].append(running[-1])
            for _ in range(WARM_UP + max(1, rounds // STARTS)):
                for contestant in running:
                    contestant.turn()
        finally:
            for contestant in running:
                contestant.close()
    return {name: Result(contestants) for name, contestants in every.items()}


def verdict(ratio: float, limit: float) -> str:
    """A ratio beside what it must not exceed."""
    return f"{ratio:5.2f} {'<=' if ratio <= limit else '> '} {limit:.2f}{'' if ratio <= limit else '  MISSED'}"
