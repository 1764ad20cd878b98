"""The ranks' agreement on what they train: the same parameters, sizes and numbers, and the same seed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from distrain import backend, rng
from distrain.autograd import Parameter
from distrain.comm import Communicator
from distrain.errors import WorldError
from distrain.links import Link

Description = dict[str, tuple[tuple[int, ...], str] | None]
"""Shape and dtype of each parameter by path; None for one that has no size yet."""


def agree(link: Link, comm: Communicator, before: set[str]) -> set[str]:
    """Gives every rank rank 0's parameters and persistent values. A collective call.

    A parameter that has a size on some ranks only gets it on all. What was agreed on before is not sent again.

    Args:
        link: the model.
        comm: the ranks.
        before: the paths that an earlier call returned; empty at first.

    Returns:
        The paths of all parameters and persistent values agreed on so far, the same on every rank.

    Raises:
        WorldError: the ranks have different models or different seeds; on every rank alike.
    """
    params = dict(link.namedparams())
    mine: Description = {
        path: (tuple(p.shape), str(p.dtype)) if p.is_initialized else None for path, p in params.items()
    }
    everybody = comm.allgather_obj((rng.seed(), mine))
    _require_same_seed([seed for seed, _ in everybody])
    sizes = _merge([description for _, description in everybody])
    agreed = set(before)
    for path, size in sizes.items():
        if size is None or path in before:
            continue
        if not params[path].is_initialized:
            params[path].initialize(size[0])
        _broadcast_param(path, params[path], comm)
        agreed.add(path)
    for path, value in link.namedpersistents():
        if path not in before and isinstance(value, np.ndarray | np.generic) or backend.is_gpu_array(value):
            comm.bcast(value)
            agreed.add(path)
    return agreed


def _require_same_seed(seeds: list[int]) -> None:
    for rank, seed in enumerate(seeds):
        if seed != seeds[0]:
            raise WorldError(
                f"rank {rank} has the seed {seed}, but rank 0 has {seeds[0]}. Call distrain.set_seed with the same "
                "number on every rank; what must differ between ranks differs by itself."
            )


def _merge(descriptions: list[Description]) -> Description:
    merged = dict(descriptions[0])
    for rank, description in enumerate(descriptions):
        if list(description) != list(descriptions[0]):
            theirs, ours = set(description), set(descriptions[0])
            raise WorldError(
                f"rank {rank} trains another model than rank 0: only there {sorted(theirs - ours) or 'nothing'}, "
                f"only on rank 0 {sorted(ours - theirs) or 'nothing'}. Build the same model on every rank."
            )
        for path, size in description.items():
            if merged[path] is None:
                merged[path] = size
            elif size is not None and size != merged[path]:
                raise WorldError(
                    f"parameter {path} has {_words(size)} on rank {rank}, but {_words(merged[path])} on another rank. "
                    "Build the same model on every rank."
                )
    return merged


def _words(size: Any) -> str:
    return f"shape {size[0]} and dtype {size[1]}"


def _broadcast_param(path: str, param: Parameter, comm: Communicator) -> None:
    before = param.array.copy() if param.grad is not None else None
    array = param.xp.ascontiguousarray(param.array)
    comm.bcast(array)
    param.array = array
    if before is not None and not bool(param.xp.array_equal(before, array, equal_nan=True)):
        warnings.warn(
            f"parameter {path} got other first numbers on rank {comm.rank} than on rank 0; rank 0's are taken. Its "
            "initializer draws from a generator of its own: draw from numpy.random, which distrain seats.",
            stacklevel=2,
        )
