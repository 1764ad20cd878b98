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

Agreed = dict[str, Any]
"""What was agreed on: parameters by path, and None for persistent values."""

Description = dict[str, tuple[tuple[int, ...], str, bool] | None]
"""Shape, dtype and whether it was agreed on, of each parameter by path; None for one that has no size yet."""


def agree(link: Link, comm: Communicator, before: Agreed) -> Agreed:
    """Gives every rank rank 0's parameters and persistent values. A collective call.

    A parameter that has a size on some ranks only gets it on all. What was agreed on before is not sent again.

    Args:
        link: the model.
        comm: the ranks.
        before: what an earlier call returned; empty at first.

    Returns:
        Everything agreed on so far.

    Raises:
        WorldError: the ranks have different models or different seeds; on every rank alike.
    """
    params = dict(link.namedparams())
    mine: Description = {
        path: (tuple(p.shape), str(p.dtype), before.get(path) is p) if p.is_initialized else None
        for path, p in params.items()
    }
    everybody = comm.allgather_obj((rng.seed(), mine))
    _require_same_seed([seed for seed, _ in everybody])
    sizes = _merge([description for _, description in everybody])
    agreed = {path: before.get(path) for path in before}
    for path, size in sizes.items():
        if size is None or _known_to_all(path, everybody):
            continue
        if not params[path].is_initialized:
            params[path].initialize(size[0])
        _broadcast_param(path, params[path], comm)
        agreed[path] = params[path]
    fresh = {
        path: backend.to_cpu(value) if _is_array(value) else value
        for path, value in link.namedpersistents()
        if path not in before and value is not None
    }
    for path, _ in link.namedpersistents():
        agreed.setdefault(path, None)  # one without a value yet gets it from its own rank's first batch
    for path, value in comm.bcast_obj(fresh).items():
        agreed[path] = None
        if comm.rank != 0:
            _set_persistent(link, path, value)
    return agreed


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or backend.is_gpu_array(value)


def _set_persistent(root: Link, path: str, value: Any) -> None:
    prefix, _, name = path.rpartition("/")
    link = dict(root.namedlinks()).get(prefix or "/")
    if link is None or name not in link.__dict__:
        raise WorldError(f"only rank 0 has the persistent value {path}. Build the same model on every rank.")
    mine = link.__dict__[name]
    if _is_array(mine) and _is_array(value) and mine.shape == value.shape:
        backend.copyto(mine, value)
    else:
        object.__setattr__(link, name, link.device.send(value))


def _known_to_all(path: str, everybody: list[tuple[int, Description]]) -> bool:
    sizes = [description[path] for _, description in everybody]
    return all([size is not None and size[2] for size in sizes])


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
            known = merged[path]
            if known is None:
                merged[path] = size
            elif size is not None and size[:2] != known[:2]:
                raise WorldError(
                    f"parameter {path} has {_words(size)} on rank {rank}, but {_words(known)} on another rank. "
                    "Build the same model on every rank."
                )
    return merged


def _words(size: Any) -> str:
    return f"shape {size[0]} and dtype {size[1]}"


def _broadcast_param(path: str, param: Parameter, comm: Communicator) -> None:
    before = param.array.copy() if param.grad is not None else None
    array = param.array.copy()
    comm.bcast(array, out=array)
    param.array = array
    if before is not None and not bool(param.xp.array_equal(before, array, equal_nan=True)):
        warnings.warn(
            f"parameter {path} got other first numbers on rank {comm.rank} than on rank 0; rank 0's are taken. Its "
            "initializer draws from a generator of its own: draw from numpy.random, which distrain seats.",
            stacklevel=2,
        )
