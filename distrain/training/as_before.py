"""Trying something with an updater, and putting everything back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from distrain import backend, minibatch
from distrain.serializers import DictionarySerializer, NpzDeserializer
from distrain.training.updater import Updater


@contextmanager
def as_before(updater: Updater) -> Iterator[None]:
    """Puts the whole state of an updater back after a `with` block; a collective call where state is sharded."""
    with _whole_state(updater), _put_back(updater):
        yield


@contextmanager
def _whole_state(updater: Updater) -> Iterator[None]:
    """A `with` block in which every rank has all of the optimizers' state, which it can put back."""
    optimizers = updater.get_all_optimizers().values()
    sharded = [optimizer for optimizer in optimizers if getattr(optimizer, "is_state_sharded", False)]
    for optimizer in sharded:
        optimizer.shard_state(False)
    try:
        yield
    finally:
        for optimizer in sharded:
            optimizer.shard_state()


@contextmanager
def _put_back(updater: Updater) -> Iterator[None]:
    share = minibatch.current()
    before = _state(updater)
    params = [
        (f"model:{name}{path}", param, _RuleState(param.update_rule), param.is_initialized)
        for name, optimizer in updater.get_all_optimizers().items()
        for path, param in optimizer.target.namedparams()
    ]
    try:
        yield
    finally:
        after = _state(updater)
        for key, _, _, had_size in params:
            if not had_size:
                before.pop(key, None)
        NpzDeserializer({**after, **before}).load(updater)  # what was not there before comes to its first state below
        for _, param, rule_state, had_size in params:
            if not had_size and param.is_initialized:
                param.unbind()
                param.initialize(param.shape)  # the same numbers as in a first forward pass
            rule_state.put_back(param)
            param.cleargrad()
        minibatch.announce(share)


def _state(updater: Updater) -> dict[str, Any]:
    writer = DictionarySerializer()
    updater.serialize(writer)
    return {key: np.array(value) for key, value in writer.target.items()}  # the writer shows arrays and copies none


class _RuleState:
    """What an update rule knew."""

    def __init__(self, rule: Any) -> None:
        self._t = rule.t
        self._state = None if rule.state is None else {name: array.copy() for name, array in rule.state.items()}

    def put_back(self, param: Any) -> None:
        """Gives it back to the rule of the parameter, in place."""
        rule = param.update_rule
        rule.t = self._t
        for name, array in (rule.state or {}).items():
            if self._state is not None:
                backend.copyto(array, self._state[name])
            elif name == "master":
                array[...] = param.array
            else:
                array[...] = 0
