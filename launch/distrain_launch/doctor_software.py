"""Looks at what is installed: Python, the packages, CUDA. Whatever may crash or hang is asked in another process."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import distrain
from distrain_launch.ask import Answer, ask
from distrain_launch.finding import Finding, ok, problem, warning

_OLDEST_PYTHON = (3, 11)


class Package(NamedTuple):
    """A package that distrain uses.

    Attributes:
        module: the name by which it is imported.
        distribution: the name by which it is installed.
        oldest: the oldest version that will do.
        extra: of distrain, which installs it; empty if distrain cannot do without.
        purpose: what for.
    """

    module: str
    distribution: str
    oldest: str
    extra: str = ""
    purpose: str = ""


PACKAGES = (
    Package("numpy", "numpy", "1.26"),
    Package("zmq", "pyzmq", "25"),
    Package("msgpack", "msgpack", "1"),
    Package("cloudpickle", "cloudpickle", "3"),
    Package("rich", "rich", "13"),
    Package("threadpoolctl", "threadpoolctl", "3"),
    Package("filelock", "filelock", "3.12"),
    Package("platformdirs", "platformdirs", "4"),
    Package("mpi4py", "mpi4py", "4", "mpich", "more than one rank"),
    Package("PIL", "pillow", "10", "image", "image files"),
    Package("matplotlib", "matplotlib", "3.8", "plot", "PlotReport"),
    Package("tensorboardX", "tensorboardX", "2.6", "tensorboard", "TensorBoard"),
)

_IMPORTS = """
import importlib
for module in {modules!r}:
    try:
        importlib.import_module(module)
        tell(module, "")
    except Exception as error:
        tell(module, type(error).__name__ + ": " + str(error))
    if module == "zmq":
        import zmq
        tell("zmq_version", zmq.zmq_version())
        tell("curve", zmq.has("curve") and bool(zmq.curve_keypair()))
    if module == "threadpoolctl":
        import threadpoolctl
        tell("blas", [[b["internal_api"], b["version"], b["num_threads"]] for b in threadpoolctl.threadpool_info()
                      if b["user_api"] == "blas"])
"""

_CUPY = """
try:
    import cupy
except ImportError as error:
    tell("missing", str(error))
    sys.exit()
tell("cupy", cupy.__version__)
runtime = cupy.cuda.runtime
tell("driver", runtime.driverGetVersion())
tell("runtime", runtime.runtimeGetVersion())
from cupy.cuda import nccl
tell("nccl", nccl.get_version() if nccl.available else None)
tell("count", runtime.getDeviceCount())
(cupy.arange(3) + 1).sum().item()
tell("computes", True)
"""


def findings(limit_s: float) -> Iterator[Finding]:
    """What is found of Python, distrain, the packages that it uses, and CUDA.

    Args:
        limit_s: seconds that each process which is asked may take.
    """
    yield _python()
    yield _distrain()
    needed = [package.module for package in PACKAGES if not package.extra]  # others are slow to import
    answer = ask(_IMPORTS.format(modules=needed), limit_s)
    for package in PACKAGES:
        yield _package(package, answer)
    if "blas" in answer.values:
        yield _blas(answer)
    if "curve" in answer.values:
        yield _curve(answer)
    yield from _cuda(limit_s)


def _python() -> Finding:
    bits = 64 if sys.maxsize > 2**32 else 32
    found = (
        f"{platform.python_implementation()} {platform.python_version()}, {bits} bits, {sys.executable}; "
        f"{platform.system()} {platform.release()} {platform.machine()}"
    )
    if sys.version_info < _OLDEST_PYTHON:
        return problem("python", found, "Install Python 3.11 or newer, and distrain into it.")
    if sys.platform != "linux":
        remedy = "Train there on one process; ranks on this system are untried, and feeders need Linux."
        return warning("python", found, remedy)
    return ok("python", found)


def _distrain() -> Finding:
    folder = Path(distrain.__file__).parent
    version = _version("distrain")
    if version is None:
        remedy = "Install it, `pip install .` in its source tree, so that scripts find it from everywhere."
        return warning("distrain", f"not installed, found in {folder}", remedy)
    return ok("distrain", f"{version}, {folder}")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(package: Package, answer: Answer) -> Finding:
    name, version = package.distribution, _version(package.distribution)
    target = f"distrain[{package.extra}]" if package.extra else f"'{name}>={package.oldest}'"
    install = f"`{sys.executable} -m pip install {target}`"
    error = "" if package.extra else answer.values.get(package.module)
    if version is None and package.extra:
        return ok(name, f"not installed; {install} if you need {package.purpose}")
    if error is None:
        found = f"{version}; whether it can be imported is not known: {answer.failure}"
        return problem(name, found, f"Install it anew: {install[:-1]} --force-reinstall`.")
    if error:
        return problem(name, f"{version or 'not installed'}, cannot be imported: {error}", f"Install it, {install}.")
    if version is not None and numbers(version) < numbers(package.oldest):
        return problem(name, f"{version}, which is older than {package.oldest}", f"{install[:-1]} --upgrade`.")
    return ok(name, version or "of an unknown version")


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (3, 12) for 3.12rc1."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def _blas(answer: Answer) -> Finding:
    libraries = answer.values["blas"]
    if not libraries:
        remedy = "With NumPy from PyPI or conda, distrain shares the cores out among the ranks."
        return warning("blas", "of NumPy: of a make whose threads cannot be set", remedy)
    return ok("blas", ", ".join(f"{name} {version or ''}".strip() for name, version, _ in libraries))


def _curve(answer: Answer) -> Finding:
    version = answer.values["zmq_version"]
    if not answer.values["curve"]:
        remedy = "`distrain feed` refuses to run without. Install pyzmq from PyPI, whose libzmq has CURVE."
        return warning("curve", f"libzmq {version} is built without CURVE", remedy)
    return ok("curve", f"libzmq {version} has CURVE")


def _cuda(limit_s: float) -> Iterator[Finding]:
    gpus = _nvidia_smi(limit_s)
    yield gpus
    has_gpu, has_cupy = gpus.found.startswith("driver"), importlib.util.find_spec("cupy") is not None
    if has_cupy:
        yield _cupy(ask(_CUPY, limit_s), has_gpu)
    elif has_gpu:
        remedy = "To train on it, `pip install distrain[cuda12]`, or `distrain[cuda13]` for CUDA 13."
        yield warning("cupy", "not installed, but there is a GPU", remedy)
    else:
        yield ok("cupy", "not installed; trainings run on the CPU")


def _nvidia_smi(limit_s: float) -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ok("cuda driver", "there is none (no nvidia-smi)")
    command = [program, "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return problem("cuda driver", f"{program} failed: {error}", "Mend the driver, or remove it.")
    lines = [line.partition(", ") for line in done.stdout.splitlines()]
    if done.returncode or not lines:
        found = f"{program} finds no GPU: {(done.stdout or done.stderr).strip() or 'it says nothing'}"
        return warning("cuda driver", found, "If there is a GPU, mend the driver; in a container, pass the GPU on.")
    return ok("cuda driver", f"driver {lines[0][0]}: {'; '.join(rest for _, _, rest in lines)}")


def _cupy(answer: Answer, has_gpu: bool) -> Finding:
    told, report = answer.values, problem if has_gpu else warning
    if "cupy" not in told:
        remedy = "Install the CuPy for your CUDA, `pip install distrain[cuda12]` or `distrain[cuda13]`, and no other."
        if "missing" in told:
            return report("cupy", f"cannot be imported: {told['missing']}", remedy)
        return problem("cupy", f"cannot be imported: {answer.failure}", remedy)  # as it would end any training
    parts = [told["cupy"]]
    for name in ("driver", "runtime"):
        if told.get(name):  # 0: there is no driver
            parts.append(f"CUDA of the {name} {told[name] // 1000}.{told[name] % 1000 // 10}")
    if told.get("nccl"):
        parts.append(f"NCCL {told['nccl'] // 10000}.{told['nccl'] // 100 % 100}.{told['nccl'] % 100}")
    found = ", ".join(parts)
    if told.get("computes"):
        return ok("cupy", f"{found}, {told['count']} GPU{'s' * (told['count'] != 1)}")
    remedy = "Take the extra for your driver's CUDA, `distrain[cuda12]` or `distrain[cuda13]`; check `nvidia-smi`."
    return report("cupy", f"{found}, but it cannot compute: {answer.failure}", remedy)
