"""What starting and looking after two ranks costs, beside mpiexec alone and, if PyTorch is there, torchrun.

    python -m benchmarks.launch [--rounds 7]

Start: seconds from the command to the end of the first iteration (a linear layer, SGD, gradients summed over the ranks)
on the slower rank. Whole: seconds until the command has ended after that one iteration. The commands take turns.
Supervision: what the launcher and the keepers compute while two ranks train for 20 s and print a line a second, in per
cent of one core. Output: megabytes a second that two ranks print together and that arrive, merged, in a file, with
`--log-dir`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.turns import thread_limits

LIMIT_S = 2.0
LIMIT_MB_S = 10.0
LIMIT_PER_CENT = 0.5
TRAINING_S = 20.0
PRINTED = 100_000_000  # bytes, by both ranks

DISTRAIN = """
import sys, time, pathlib
import numpy as np
import distrain, distrain.functions as F, distrain.links as L
from distrain import training
model = L.Classifier(L.Linear(4, 1), lossfun=F.mean_squared_error)
model.compute_accuracy = False
optimizer = distrain.optimizers.SGD().setup(model)
data = distrain.datasets.TupleDataset(np.zeros((8, 4), np.float32), np.zeros((8, 1), np.float32))
training.StandardUpdater(distrain.iterators.SerialIterator(data, 8), optimizer).update()
pathlib.Path(sys.argv[1], str(distrain.comm.world().rank)).write_text(str(time.time()))
"""
TORCH = """
import sys, time, pathlib
import torch
torch.distributed.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.nn.functional.mse_loss(model(torch.zeros(4, 4)), torch.zeros(4, 1)).backward()
optimizer.step()
pathlib.Path(sys.argv[1], str(torch.distributed.get_rank())).write_text(str(time.time()))
torch.distributed.destroy_process_group()
"""
TRAIN = """
import sys, time
import numpy as np
import distrain, distrain.functions as F, distrain.links as L
from distrain import training
from distrain.training import extensions
model = L.Classifier(L.Linear(784, 50), lossfun=F.softmax_cross_entropy)
optimizer = distrain.optimizers.Adam().setup(model)
data = distrain.datasets.TupleDataset(np.zeros((1000, 784), np.float32), np.zeros(1000, np.int32))
updater = training.StandardUpdater(distrain.iterators.SerialIterator(data, 100), optimizer)
trainer = training.Trainer(updater, (10**9, "iteration"), out=sys.argv[1])
began = [0.0]
def show(trainer):
    if distrain.comm.world().rank == 0 and time.monotonic() - began[0] > 1:
        began[0] = time.monotonic()
        print(trainer.updater.iteration, flush=True)
trainer.extend(show, trigger=(10, "iteration"))
trainer.run()
"""
PRINT = """
import os
block = b"x" * 99 + b"\\n"
for _ in range(500):
    os.write(1, block * 1000)
"""


def environment() -> dict[str, str]:
    from distrain_launch import mpiexec

    paths = [os.getcwd(), os.path.join(os.getcwd(), "launch"), os.environ.get("PYTHONPATH", "")]
    asked_for = mpiexec.command(mpiexec.find(), 2, [], mpiexec.Machine.here()).variables
    return {**os.environ, **asked_for, **thread_limits(1), "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def contestants(folder: Path) -> Iterator[tuple[str, list[str]]]:
    from distrain_launch import mpiexec

    script, torch_script = folder / "start.py", folder / "start_torch.py"
    script.write_text(DISTRAIN)
    torch_script.write_text(TORCH)
    run = [sys.executable, "-m", "distrain_launch", "run", "-n", "2"]
    yield "distrain run", [*run, str(script)]
    made = mpiexec.command(mpiexec.find(), 2, [sys.executable, str(script)], mpiexec.Machine.here())
    yield "mpiexec", made.arguments
    if importlib.util.find_spec("torch"):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        yield "torchrun", [*torchrun, str(torch_script)]


def start(command: list[str]) -> tuple[float, float]:
    """Seconds to the first iteration, and to the end."""
    variables = environment()
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        subprocess.run([*command, folder], env=variables, timeout=120, check=True)
        ended = time.time()
        return max(float(file.read_text()) for file in Path(folder).iterdir()) - began, ended - began


def megabytes_per_second(folder: Path) -> float:
    script, merged = folder / "print.py", folder / "merged"
    script.write_text(PRINT)
    command = [
        sys.executable,
        "-m",
        "distrain_launch",
        "run",
        "-n",
        "2",
        "--log-dir",
        str(folder / "logs"),
        str(script),
    ]
    with merged.open("wb") as out:
        began = time.perf_counter()
        subprocess.run(command, env=environment(), stdout=out, timeout=120, check=True)
        taken = time.perf_counter() - began
    host = os.uname().nodename.partition(".")[0]
    assert merged.stat().st_size == PRINTED + PRINTED // 2 // 100 * len(f"[{host}:1] "), "lines were lost"
    return PRINTED / 1e6 / taken


def per_cent_of_a_core(folder: Path) -> float:
    """What launcher and keepers compute while two ranks train, from the first line that comes on."""
    from distrain_launch.keeper import descendants

    script = folder / "train.py"
    script.write_text(TRAIN)
    command = [sys.executable, "-m", "distrain_launch", "run", "-n", "2", "--grace", "5", str(script), str(folder)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        try:
            job.stdout.readline()
            keepers = [pid for pid in descendants(job.pid) if _is_keeper(pid)]
            assert len(keepers) == 2, keepers
            began, before = time.perf_counter(), sum(map(_cpu_s, [job.pid, *keepers]))
            while time.perf_counter() - began < TRAINING_S:
                job.stdout.readline()
            return 100 * (sum(map(_cpu_s, [job.pid, *keepers])) - before) / (time.perf_counter() - began)
        finally:
            job.send_signal(signal.SIGTERM)
            job.communicate(timeout=30)


def _is_keeper(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[0] == sys.executable and any(word.endswith("/keeper.py") for word in words)


def _cpu_s(pid: int) -> float:
    """Seconds that the threads of a process have computed, to the nanosecond."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What starting and looking after two ranks costs.")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each command (default: 7)")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        commands = dict(contestants(Path(folder)))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(args.rounds + 1):
            for name, command in commands.items():
                taken = start(command)
                if turn:  # the first compiles and fills caches
                    times[name].append(taken)
        for name, measured in times.items():
            first, whole = (statistics.median(column) for column in zip(*measured, strict=True))
            missed = "  MISSED" if name == "distrain run" and first > LIMIT_S else ""
            print(f"{name:14}first iteration {first:.2f} s  whole {whole:.2f} s{missed}")
        share = per_cent_of_a_core(Path(folder))
        missed = "" if share <= LIMIT_PER_CENT else "  MISSED"
        print(f"supervision {share:.2f} % of a core <= {LIMIT_PER_CENT} %{missed}")
        speed = megabytes_per_second(Path(folder))
        print(f"output {speed:.0f} MB/s >= {LIMIT_MB_S:.0f}" + ("" if speed >= LIMIT_MB_S else "  MISSED"))


if __name__ == "__main__":
    main()
