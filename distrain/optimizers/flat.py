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
from distrain.optimizers.spread import WHOLE, Spread
from distrain.optimizers.update_rule import ElementwiseRule

_FLUSH_INTERVAL = 64  # updates
_BLOCK_SIZE = 3 * 2**14  # numbers updated at a time: all that an update reads and writes of them fits a core's cache
_SMALLEST = 1e-35
_CACHE_LINE = 64  # bytes
_Block = tuple[Array, Array, tuple[Array, ...], tuple[Array, ...]]  # numbers, gradients, state, scratch


class Run:
    """Neighbouring parameters that are updated alike: a slice of the flat arrays.

    To a hook it looks like one parameter. Where this process has not all of the state it updates only a part of it,
    possibly nothing; and where it has not all of the gradients, that part is all that it shows.

    Attributes:
        array: slice of the flat array, shape (n,).
        grad: slice of the gradient that the update uses, shape (n,): `FlatGroup.step_grad`.
        rules: the update rules of the parameters in it.
    """

    def __init__(self, group: FlatGroup, first: int, last: int) -> None:
        start, stop = group.bounds[first][0], group.bounds[last][1]
        self.group = group
        self.first = first
        self.rules = group.rules[first : last + 1]
        low, high = _within(group.seen, start, stop)
        offset = group.seen[0]
        self.array, self.grad = group.array[low:high], group.step_grad[low - offset : high - offset]
        low, high = _within(group.own, start, stop)
        self._own = low, high
        self._own_grad = group.step_grad[low - offset : high - offset]
        self.xp = group.xp
        self._blocks = self._cut(low, high)

    def _cut(self, low: int, high: int) -> list[_Block]:
        """What is updated, in blocks: the numbers of the flat array between two bounds, and what belongs to them."""
        group, size = self.group, high - low
        step = max(1, min(_BLOCK_SIZE, size) if self.xp is np else size)
        scratch = group.scratch(self.rules[0].n_scratch, min(step, size))
        blocks = []
        for start in range(low, high, step):
            stop = min(start + step, high)
            grad = group.step_grad[start - group.seen[0] : stop - group.seen[0]]
            state = tuple([array[start - group.own[0] : stop - group.own[0]] for array in group.state.values()])
            blocks.append((group.array[start:stop], grad, state, tuple([array[: stop - start] for array in scratch])))
        return blocks

    @property
    def dtype(self) -> Any:
        """Dtype of the parameters."""
        return self.array.dtype

    def step(self) -> None:
        """Updates the parameters in it."""
        for rule in self.rules:
            rule.t += 1
        rule = self.rules[0]
        self._update(rule)
        if rule.t % _FLUSH_INTERVAL == 0 and self.xp is np:
            for _, _, state, _ in self._blocks:
                for array in state[: len(rule.state_names)]:
                    _flush(array)

    def _update(self, rule: ElementwiseRule) -> None:
        for w, g, state, scratch in self._blocks:
            rule.step_on(w, g, state, scratch, rule.t, self.xp)

    def step_alone(self) -> None:
        """Updates its one parameter, whose rule has hooks of its own; leaves those that come after the update."""
        (rule,) = self.rules
        param = self.group.params[self.first]
        if rule.part is None:
            rule.update(param)
            return
        rule.t += 1
        rule.run_hooks("pre", param)
        if self.group.has_master:  # the hooks have changed the parameter's own gradient
            self._own_grad[...] = self.group.grad[slice(*self._own)]
        self._update(rule)

    def run_late_hooks(self) -> None:
        """Runs the hooks of its one parameter that `step_alone` has left."""
        (rule,) = self.rules
        if rule.part is not None:
            rule.run_hooks("post", self.group.params[self.first])


def _within(bounds: tuple[int, int], start: int, stop: int) -> tuple[int, int]:
    """What of the slice `[start, stop)` lies in other bounds; an empty slice in them if nothing does."""
    low = min(max(start, bounds[0]), bounds[1])
    return low, min(max(stop, low), bounds[1])


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
        slices: for each rank the slice whose state it has; [(0, n)] if every rank has all of it.
        own: that of this process. `state` then has its numbers only.
        seen: the slice of the gradients that are summed over all ranks; `step_grad` then has its numbers only.
        has_master: whether the parameters have a float32 master.

    Args:
        params: as above.
        spread: which rank has which slice.
    """

    def __init__(self, params: list[Parameter], spread: Spread = WHOLE) -> None:
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
        self.has_master = "master" in names
        state_dtype = np.dtype(np.float32) if self.has_master else first.dtype
        self.spread = spread
        self.slices = spread.slices(total, self.array.itemsize)
        self.own = self.slices[spread.rank]
        self.seen = low, high = self.own if spread.is_scattered else (0, total)
        self._seen_grad = self.grad[low:high]
        self.step_grad = _zeros(high - low, np.float32, xp) if self.has_master else self._seen_grad
        self.state = {name: _zeros(self.own[1] - self.own[0], state_dtype, xp) for name in names}
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
        low, high = _within(self.own, start, stop)
        part = slice(low - start, high - start) if self.spread.size > 1 else None
        old = rule.state or {}
        rule.state = {}
        for name, flat in self.state.items():
            view = flat[low - self.own[0] : high - self.own[0]]
            if name in old:
                array = old[name] if rule.part is not None else old[name].reshape(-1)[part or slice(None)]
                view[...] = param.device.send(array)
            elif name == "master":
                view[...] = self.array[low:high]
            rule.state[name] = view if part else view.reshape(param.shape)
        rule.part = part

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
        grad = self._seen_grad
        if self.has_master:
            self.xp.multiply(grad, np.float32(factor), out=self.step_grad)
            if factor != 1.0:
                grad[...] = self.step_grad
        elif factor != 1.0:
            grad[...] = grad * (np.float32(factor) if grad.dtype == np.float16 else factor)

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


def sort_params(params: list[Parameter]) -> tuple[list[list[Parameter]], list[Parameter]]:
    """Sorts parameters by what can lie in one flat group.

    Args:
        params: initialised, each once, in the order of creation.

    Returns:
        The parameters of each group in their order, and those that stay by themselves: their rule is not elementwise,
        or another optimizer holds them.
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
    return list(by_kind.values()), loose
