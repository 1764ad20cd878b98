"""Copies of parameters, and from links to links of the same structure."""

from __future__ import annotations

import copy as copying
from typing import TYPE_CHECKING

from distrain.autograd import Parameter
from distrain.errors import ArgumentError

if TYPE_CHECKING:
    from distrain.links.link import Link


def copy_params(source: Link, target: Link, copy_persistent: bool) -> None:
    """Copies the numbers of a link into another one of the same structure; see `Link.copyparams`."""
    theirs = dict(source.namedparams())
    mine = dict(target.namedparams())
    require_same(mine, theirs)
    for path, param in mine.items():
        given = theirs[path]
        if not given.is_initialized:
            continue
        if not param.is_initialized:
            param.initialize(given.shape)
        param.copydata(given)
    if copy_persistent:
        their_links = dict(source.namedlinks())
        for path, own in target.namedlinks():
            for name in own._persistent:
                value = their_links[path].__dict__[name]
                object.__setattr__(own, name, own._device.send(copying.deepcopy(value)))


def require_same(mine: dict[str, Parameter], theirs: dict[str, Parameter]) -> None:
    """Compares parameters by path.

    Raises:
        ArgumentError: the paths differ, or the shapes of parameters that have one.
    """
    if mine.keys() != theirs.keys():
        raise ArgumentError(
            f"the links have different parameters: only here {sorted(mine.keys() - theirs.keys())}, "
            f"only there {sorted(theirs.keys() - mine.keys())}"
        )
    for path, param in mine.items():
        other = theirs[path]
        if param.is_initialized and other.is_initialized and param.shape != other.shape:
            raise ArgumentError(f"parameter {path} has shape {param.shape} here, but {other.shape} there")


def copy_of(param: Parameter, mode: str) -> Parameter:
    """A parameter of its own: with the same numbers ("copy"), or initialised anew ("init")."""
    if mode == "copy":
        return param.clone()
    shape = param.shape if param.is_initialized else None
    new = Parameter(copying.copy(param.initializer), shape, param.name)  # an initial array must not be shared
    new.to_device(param.device)
    return new
