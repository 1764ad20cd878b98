"""`UpdateRule`: how one parameter is updated, and `ElementwiseRule`, which can do many at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from distrain import backend
from distrain.autograd import Parameter
from distrain.backend import Array
from distrain.errors import ArgumentError
from distrain.optimizers.hyperparameter import Hyperparameter

Hook = Callable[..., None]


class UpdateRule:
    """How one parameter is updated. Users define `init_state` and `update_core` (or `update_core_cpu` and `_gpu`).

    Attributes:
        hyperparam: values of its own, or the optimizer's.
        enabled: False freezes the parameter.
        t: number of updates so far.
        state: arrays that belong to the parameter, by name; None before the first update.
    """

    def __init__(self, parent_hyperparam: Hyperparameter | None = None) -> None:
        self.hyperparam = Hyperparameter(parent_hyperparam)
        self.enabled = True
        self.t = 0
        self.state: dict[str, Any] | None = None
        self.hooks: dict[str, tuple[Hook, str]] = {}

    def add_hook(self, hook: Hook, name: str | None = None, timing: str = "auto") -> None:
        """Adds a function `hook(rule, param)` that runs before ("pre") or after ("post") each update.

        Raises:
            ArgumentError: there is a hook of that name, or the timing is another word.
        """
        add_hook(self.hooks, hook, name, timing)

    def remove_hook(self, name: str) -> None:
        """Removes the hook of that name.

        Raises:
            KeyError: there is none.
        """
        del self.hooks[name]

    def update(self, param: Parameter) -> None:
        """Updates the parameter with its gradient, with hooks; does nothing if frozen or without gradient."""
        if not self.enabled or param.grad is None:
            return
        self.t += 1
        self.run_hooks("pre", param)
        self.prepare(param)
        self.update_core(param)
        self.run_hooks("post", param)

    def run_hooks(self, timing: str, param: Any) -> None:
        """Runs the hooks of that timing."""
        for hook, when in list(self.hooks.values()):
            if when == timing:
                hook(self, param)

    def prepare(self, param: Parameter) -> None:
        """Makes sure that the state is there, on the parameter's device."""
        if self.state is None:
            self.state = {}
            self.init_state(param)
        for name, value in self.state.items():
            self.state[name] = param.device.send(value)

    def prepare_to_read(self, param: Parameter) -> None:
        """Makes the state that `serialize` will fill; called where there is none."""
        self.prepare(param)

    def init_state(self, param: Parameter) -> None:
        """Puts the arrays that belong to the parameter into `self.state`."""

    def update_core(self, param: Parameter) -> None:
        """Updates the parameter's array in place."""
        if backend.is_gpu_array(param.array):
            self.update_core_gpu(param)
        else:
            self.update_core_cpu(param)

    def update_core_cpu(self, param: Parameter) -> None:
        """Updates a NumPy array in place."""
        raise NotImplementedError(f"{type(self).__name__} defines neither update_core nor update_core_cpu")

    def update_core_gpu(self, param: Parameter) -> None:
        """Updates a CuPy array in place."""
        raise NotImplementedError(f"{type(self).__name__} defines neither update_core nor update_core_gpu")

    def serialize(self, serializer: Any) -> None:
        """Reads or writes `t` and the state."""
        self.t = serializer("t", self.t)
        if self.state is not None:
            place = serializer.lenient()  # a file from before the first update has none
            for name in self.state:
                self.state[name] = place(name, self.state[name])


class ElementwiseRule(UpdateRule):
    """A rule that treats every number alike, so that many parameters can be updated as one flat array.

    Attributes:
        state_names: names of its state arrays, each of the parameter's shape and starting with zeros.
        n_scratch: number of scratch arrays that `step` needs.
        fp32: keep a float32 master of a float16 parameter and update that.
        part: the slice of the parameter's numbers in a row whose state this process has, as arrays of shape (n,);
            None: all, of the parameter's shape.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    n_scratch: ClassVar[int] = 1
    fp32 = False
    part: slice | None = None

    def step(self, w: Array, g: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], t: int, xp: Any) -> None:
        """One update in place.

        Args:
            w: numbers, any shape, float16, 32 or 64.
            g: their gradients, same shape and dtype; not changed.
            state: arrays of `state_names`, same shape and dtype.
            scratch: `n_scratch` arrays of the same shape and dtype, with anything in them.
            t: number of this update, from 1.
            xp: array module.
        """
        raise NotImplementedError

    def all_state_names(self, dtype: Any) -> tuple[str, ...]:
        """`state_names`, and "master" if a float32 master is kept for a parameter of that dtype."""
        return (*self.state_names, "master") if self.fp32 and dtype == np.float16 else self.state_names

    def prepare_to_read(self, param: Parameter) -> None:
        """Does nothing: `serialize` takes what the file has."""

    def init_state(self, param: Parameter) -> None:
        """Zeros, and the numbers themselves as the master."""
        assert self.state is not None
        names = self.all_state_names(param.dtype)
        dtype = np.float32 if "master" in names else param.dtype
        for name in names:
            self.state[name] = param.xp.zeros(param.shape, dtype) if name != "master" else param.array.astype(dtype)

    def update_core(self, param: Parameter) -> None:
        """Updates the parameter's array in place.

        Raises:
            ArgumentError: the state is spread over the ranks.
        """
        assert self.state is not None
        if self.part is not None:
            raise ArgumentError("the state of this parameter is spread over the ranks: call optimizer.update()")
        arrays = tuple([self.state[name] for name in self.all_state_names(param.dtype)])
        scratch = tuple([param.xp.empty_like(arrays[-1] if arrays else param.array) for _ in range(self.n_scratch)])
        self.step_on(param.array, param.grad, arrays, scratch, self.t, param.xp)

    def step_on(
        self, w: Array, g: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], t: int, xp: Any
    ) -> None:
        """`step`, on the float32 master if the state has one."""
        if len(state) > len(self.state_names):
            *rest, master = state
            stale = w != master.astype(w.dtype)  # somebody has assigned other numbers to the parameter
            xp.copyto(master, w.astype(master.dtype), where=stale)
            self.step(master, g.astype(master.dtype, copy=False), tuple(rest), scratch, t, xp)
            w[...] = master
        else:
            self.step(w, g, state, scratch, t, xp)

    def serialize(self, serializer: Any) -> None:
        """Reads or writes `t` and the state; reading works before the parameter has a size."""
        self.t = serializer("t", self.t)
        if self.state is not None:
            state, place = self.state, serializer.lenient()  # before the first update there is nothing to read
            for name in state:
                if self.t == 0 and not serializer.is_writer and name != "master":
                    state[name][...] = 0
                state[name] = place(name, state[name])
        elif not serializer.is_writer:
            names = (*self.state_names, "master") if self.fp32 else self.state_names
            if self.t == 0:  # a file from before the first update has none
                return
            found = {name: serializer.lenient()(name, None) for name in names}
            self.state = {name: value for name, value in found.items() if value is not None} or None


def representable_eps(eps: float, dtype: Any) -> float:
    """`eps`, if it is not zero in that dtype, where a zero gradient would become NaN.

    Raises:
        ArgumentError: it is.
    """
    if dtype.char == "e" and eps != 0 and np.float16(eps) == 0:
        raise ArgumentError(f"eps={eps} is 0 in float16; make it larger, or call optimizer.use_fp32_update()")
    return eps


def add_hook(hooks: dict[str, tuple[Hook, str]], hook: Hook, name: str | None, timing: str) -> None:
    """Enters a hook under its name into a table of hooks.

    Raises:
        ArgumentError: it cannot be called, there is a hook of that name, or the timing is another word.
    """
    if not callable(hook):
        raise ArgumentError(f"a hook must be a function, not {type(hook).__name__}")
    if timing not in ("auto", "pre", "post"):
        raise ArgumentError(f"timing must be 'pre', 'post' or 'auto', not {timing!r}")
    if timing == "auto":
        timing = getattr(hook, "timing", "pre")
    if name is None:
        base = str(getattr(hook, "name", None) or getattr(hook, "__name__", type(hook).__name__))
        numbered = (base if i == 0 else f"{base}_{i}" for i in itertools.count())
        name = next(n for n in numbered if n not in hooks)
    elif name in hooks:
        raise ArgumentError(f"there is a hook {name!r} already; the hooks are {', '.join(hooks)}")
    hooks[name] = (hook, timing)
