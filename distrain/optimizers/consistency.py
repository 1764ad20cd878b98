"""Do the ranks still train the same thing? What is compared at the start, and now and then afterwards."""

from __future__ import annotations

import hashlib
import platform
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distrain import backend
from distrain.autograd import Parameter
from distrain.comm import Communicator
from distrain.errors import WorldError

if TYPE_CHECKING:
    from distrain.optimizers.optimizer import Optimizer


def describe(optimizer: Optimizer) -> dict[str, str]:
    """What must be the same on all ranks besides the model: optimizer, its values and hooks, versions, script."""
    told = {"optimizer": type(optimizer).__name__}
    told |= {f"hyperparameter {name}": repr(value) for name, value in optimizer.hyperparam.get_dict().items()}
    told["state"] = "sharded" if getattr(optimizer, "is_state_sharded", False) else "whole"
    told["hooks"] = ", ".join(optimizer.hooks) or "none"
    told["version of Python"] = platform.python_version()
    told["version of NumPy"] = np.__version__
    for module in ("distrain", "cupy"):
        if module in sys.modules:
            told[f"version of {module}"] = str(sys.modules[module].__version__)
    told["script"] = _script()
    return told


def _script() -> str:
    """Name and digest of the file that was started; the folder may be another one on each host."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None:
        return "none"
    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:  # it was moved or removed since
        return "unknown"
    return f"{Path(path).name} (sha256 {digest[:12]}…)"


def require_same(comm: Communicator, optimizer: Optimizer) -> None:
    """Compares the optimizers of the ranks. A collective call.

    Raises:
        WorldError: they differ; on all ranks alike.
    """
    first, *others = comm.allgather_obj(describe(optimizer))
    for rank, told in enumerate(others, start=1):
        for what in first | told:
            if told.get(what) != first.get(what):
                raise WorldError(
                    f"{what}: {told.get(what, 'nothing')} on rank {rank}, but {first.get(what, 'nothing')} on rank 0. "
                    "Set up the same optimizer, in the same environment, on every rank."
                )


def check_parameters(comm: Communicator, optimizer: Optimizer) -> None:
    """Compares digests of the parameters. A collective call.

    Raises:
        WorldError: the numbers of some rank have gone their own way; on all ranks alike.
    """
    named = [(path, param) for path, param in optimizer.require_target().namedparams() if param.is_initialized]
    digests = [_digest(param) for _, param in named]
    if len(set(comm.allgather_obj(hash(tuple(digests))))) == 1:
        return
    first, *others = comm.allgather_obj(digests)
    for rank, theirs in enumerate(others, start=1):
        different = [path for (path, _), a, b in zip(named, theirs, first, strict=False) if a != b]
        if different:
            raise WorldError(
                f"after update {optimizer.t} rank {rank} has other numbers than rank 0 in parameter "
                f"{', '.join(different[:5])}{' …' if len(different) > 5 else ''}. Something changes parameters on some "
                "ranks only, or a memory or a network fails; start again from the last snapshot."
            )
    raise WorldError(f"after update {optimizer.t} the ranks have different numbers of parameters")


def _digest(param: Parameter) -> int:
    host: Any = backend.to_cpu(param.array)
    return zlib.crc32(np.ascontiguousarray(host).reshape(-1).view(np.uint8).data)
