"""Flat parameters: many parameters of one dtype and device as one contiguous array.

The parameters' arrays and gradients become views of it. So the exchange of gradients between ranks needs no packing,
and an update or a norm is a handful of vector operations, however many parameters there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from distrain.autograd import Parameter
from distrain.backend import Array
from distrain.optimizers.update_rule import ElementwiseRule

_FLUSH_INTERVAL = 64  # updates
_BLOCK_SIZE = 3 * 2**14  # numbers updated at a time: all that an update reads and writes of them fits a core's cache
_SMALLEST = 1e-35
_CACHE_LINE = 64  # bytes
_Block = tuple[Array, Array, tuple[Array, ...], tuple[Array, ...]]  # numbers, gradients, state, scratch


class Run:
    """Neighbouring parameters that are updated alike: a slice of the flat arrays.

    To a hook it looks like one parameter.

    Attributes:
        array: slice of the flat array, shape (n,).
        grad: slice of the gradient that the update uses, shape (n,): `FlatGroup.step_grad`.
        rules: the update rules of the parameters in it.
    """

    def __init__(self, group: FlatGroup, first: int, last: int) -> None:
        start, stop = group.bounds[first][0], group.bounds[last][1]
        self.group = group
        self.rules = group.rules[first : last + 1]
        self.array = group.array[start:stop]
        self.grad = group.step_grad[start:stop]
        self.xp = group.xp
        size = stop - start
        step = max(1, min(_BLOCK_SIZE, size) if self.xp is np else size)
        scratch = group.scratch(self.rules[0].n_scratch, step)
        self._blocks: list[_Block] = []
        for begin in range(start, stop, step):
            part = slice(begin, min(begin + step, stop))
            state = tuple([array[part] for array in group.state.values()])
            own = tuple([array[: part.stop - begin] for array in scratch])
            self._blocks.append((group.array[part], group.step_grad[part], state, own))

    @property
    def dtype(self) -> Any:
        """Dtype of the parameters."""
        return self.array.dtype

    def step(self) -> None:
        """Updates the parameters in it."""
        for rule in self.rules:
            rule.t += 1
        rule = self.rules[0]
        for w, g, state, scratch in self._blocks:
            rule.step_on(w, g, state, scratch, rule.t, self.xp)
        if rule.t % _FLUSH_INTERVAL == 0 and self.xp is np:
            for _, _, state, _ in self._blocks:
                for array in state[: len(rule.state_names)]:
                    _flush(array)


def _flush(state: Array) -> None:
    """Sets to zero what is next to nothing.

    Where gradients stay zero (dead units, rows of an embedding that are not looked up), moments decay until they are
    denormal numbers, and stay there: 0.9 times the smallest one rounds to itself. CPUs are slow with them; Adam took
    twice its time on a network with dead units.
    """
    if state.dtype == np.float32:
        state *= np.abs(state) >= _SMALLEST


def _zeros(count: int, dtype: Any, xp: Any) -> Array:
    """Zeros that begin where a cache line does: loads across two lines make an update of Adam a twelfth longer."""
    if xp is not np:
        return xp.zeros(count, dtype)
    nbytes = count * np.dtype(dtype).itemsize
    memory = np.zeros(nbytes + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + nbytes].view(dtype)


class FlatGroup:
    """Parameters of one dtype, device and kind of rule, moved into one array.

    Attributes:
        params: in the order in which they lie in the array: the reverse of the order of their creation, which is
            about the order in which the backward pass reaches them.
        array: all numbers, shape (n,).
        grad: all gradients, shape (n,).
        step_grad: the gradient that the update uses, shape (n,): `grad` itself, or where float16 parameters have a
            float32 master, `grad` in float32 and without the loss scale, so that small numbers are not lost.
        buffer: `grad`, then one number a parameter, which tells other ranks whether it has a gradient, then one which
            tells them whose buffer it is; shape (n + len(params) + 1,).
        flags, ticket: these numbers.
        state: flat arrays of the rules' states by name, shape (n,) each.
    """

    def __init__(self, params: list[Parameter]) -> None:
        self.params = params
        self.rules: list[ElementwiseRule] = [param.update_rule for param in params]
        first = params[0]
        self.xp = xp = first.xp
        self.bounds: list[tuple[int, int]] = []
        total = 0
        for param in params:
            self.bounds.append((total, total + param.size))
            total += param.size
        self.array = _zeros(total, first.dtype, xp)
        self.buffer = _zeros(total + len(params) + 1, first.dtype, xp)
        self.grad, self.flags, self.ticket = self.buffer[:total], self.buffer[total:-1], self.buffer[-1:]
        names = self.rules[0].all_state_names(first.dtype)
        state_dtype = np.dtype(np.float32) if "master" in names else first.dtype
        self.step_grad = _zeros(total, np.float32, xp) if "master" in names else self.grad
        self.state = {name: _zeros(total, state_dtype, xp) for name in names}
        self.state_dtype = state_dtype
        self._scratch: list[Array] = []
        for param, (start, stop) in zip(params, self.bounds, strict=True):
            param.bind(self.array[start:stop].reshape(param.shape), self.grad[start:stop].reshape(param.shape))
            self._adopt_state(param, start, stop)
        self._arrays = [param.array for param in params]
        self._runs: list[Run] = []
        self._runs_key: object = None

    def _adopt_state(self, param: Parameter, start: int, stop: int) -> None:
        rule: ElementwiseRule = param.update_rule
        old = rule.state or {}
        rule.state = {}
        for name, flat in self.state.items():
            view = flat[start:stop].reshape(param.shape)
            if name in old:
                view[...] = param.device.send(old[name])
            elif name == "master":
                view[...] = param.array
            rule.state[name] = view

    def is_current(self) -> bool:
        """Whether every parameter still lies where this group put it, with the rule it had."""
        for param, array, rule in zip(self.params, self._arrays, self.rules, strict=True):
            if param._array is not array or param.update_rule is not rule:
                return False
        return True

    def dissolve(self) -> None:
        """Lets go of the parameters that still lie here."""
        for param, array in zip(self.params, self._arrays, strict=True):
            if param._array is array:
                param.unbind()

    def scale_grad(self, factor: float) -> None:
        """Multiplies the gradients, and brings them to `step_grad`."""
        if self.step_grad is not self.grad:
            self.xp.multiply(self.grad, np.float32(factor), out=self.step_grad)
            if factor != 1.0:
                self.grad[...] = self.step_grad
        elif factor != 1.0:
            self.grad[...] = self.grad * (np.float32(factor) if self.grad.dtype == np.float16 else factor)

    def scratch(self, count: int, size: int) -> tuple[Array, ...]:
        """Arrays of that many numbers, with anything in them; the same memory in every call."""
        if len(self._scratch) < count or len(self._scratch[0]) < size:
            self._scratch = [_zeros(size, self.state_dtype, self.xp) for _ in range(count)]
        return tuple([s[:size] for s in self._scratch[:count]])

    def runs(self) -> list[Run]:
        """The parameters that have a gradient and are not frozen, in as few runs as their rules allow."""
        pattern: list[Any] = []
        first = None
        for param, rule in zip(self.params, self.rules, strict=True):
            if param._grad is None or not rule.enabled:
                pattern.append(None)
            elif rule.hooks or rule.hyperparam.has_own:
                pattern.append(rule)
            else:
                if first is None:
                    first = rule.t
                pattern.append(rule.t - first)
        if pattern != self._runs_key:
            self._runs = list(self._find_runs(pattern))
            self._runs_key = pattern
        return self._runs

    def _find_runs(self, pattern: list[Any]) -> Iterator[Run]:
        first = 0
        for i, mark in enumerate(pattern):
            last_of_run = i + 1 == len(pattern) or pattern[i + 1] != mark
            if last_of_run:
                if mark is not None:
                    yield Run(self, first, i)
                first = i + 1


def group_params(params: list[Parameter]) -> tuple[list[FlatGroup], list[Parameter]]:
    """Moves parameters into flat groups.

    Args:
        params: initialised, each once, in the order of creation.

    Returns:
        The groups, and the parameters that stay by themselves: their rule is not elementwise, or another optimizer
        holds them.
    """
    by_kind: dict[tuple[Any, ...], list[Parameter]] = {}
    loose: list[Parameter] = []
    for param in reversed(params):
        rule = param.update_rule
        if not isinstance(rule, ElementwiseRule) or param.is_bound:
            loose.append(param)
            continue
        by_kind.setdefault((param.dtype, param.device, type(rule), rule.fp32, id(rule.hyperparam.parent)), []).append(
            param
        )
    return [FlatGroup(group) for group in by_kind.values()], loose
