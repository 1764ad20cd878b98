"""`LSTM` and `StatelessLSTM`: recurrent layers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from distrain import minibatch
from distrain.autograd import Variable, as_variable
from distrain.backend import Array
from distrain.errors import ArgumentError
from distrain.functions.array.join import concat
from distrain.functions.rnn.lstm import lstm
from distrain.initializers import LeCunNormal, generate_array, get_initializer
from distrain.links.chain import Chain
from distrain.links.linear import Linear

_NO_STATE = (None, None)
_FORGET = 2  # the gates lie interleaved in the order a, i, f, o


class _Gates:
    """Initializer of the four interleaved gates: each gate's rows are drawn as a matrix of their own."""

    def __init__(self, initializer: Any) -> None:
        self.initializer = get_initializer(initializer, LeCunNormal())
        self.dtype = getattr(self.initializer, "dtype", None)

    def __call__(self, array: Array) -> None:
        units = len(array) // 4
        for gate in range(4):
            array.reshape(units, 4, -1)[:, gate] = generate_array(
                self.initializer, (units, array.shape[1]), np, array.dtype
            )


class _GateBias:
    def __init__(self, others: Any, forget: Any) -> None:
        self.others, self.forget = others, forget

    def __call__(self, array: Array) -> None:
        units = len(array) // 4
        for gate in range(4):
            initializer = self.forget if gate == _FORGET else self.others
            array.reshape(units, 4)[:, gate] = generate_array(initializer, (units,), np, array.dtype)


class StatelessLSTM(Chain):
    """One step of an LSTM: `c, h = lstm(c, h, x)`.

    Args:
        in_size: length of the inputs; None: learned from the first input. With one size given, it is `out_size`.
        out_size: length of cell and output.
        lateral_init, upward_init: initializers of the weights from the last output and from the input.
        bias_init, forget_bias_init: initializers of the biases; 0, and 1 for the forget gate, if None.

    References:
        S. Hochreiter, J. Schmidhuber: Long Short-Term Memory, 1997; with forget gates by F. Gers, J. Schmidhuber,
        F. Cummins, 2000.
    """

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        lateral_init: Any = None,
        upward_init: Any = None,
        bias_init: Any = None,
        forget_bias_init: Any = None,
    ) -> None:
        super().__init__()
        if out_size is None:
            in_size, out_size = None, in_size
        if out_size is None:
            raise ArgumentError("an LSTM needs the length of its output: LSTM(None, out_size) or LSTM(out_size)")
        self.state_size = out_size
        bias = _GateBias(0.0 if bias_init is None else bias_init, 1.0 if forget_bias_init is None else forget_bias_init)
        with self.init_scope():
            self.upward = Linear(in_size, 4 * out_size, initialW=_Gates(upward_init), initial_bias=bias)
            self.lateral = Linear(out_size, 4 * out_size, nobias=True, initialW=_Gates(lateral_init))

    def forward(
        self, c: Variable | Array | None, h: Variable | Array | None, x: Variable | Array
    ) -> tuple[Variable, Variable]:
        """One step.

        Args:
            c: cell before the step, shape (N, out_size); zeros if None.
            h: output of the last step, shape (N, out_size); zeros if None.
            x: shape (N, in_size).

        Returns:
            Cell and output after the step.
        """
        gates = self.upward(x)
        if h is not None:
            gates = gates + self.lateral(h)
        if c is None:
            c = self.xp.zeros((len(x), self.state_size), gates.dtype)
        new_c, new_h = lstm(c, gates)
        return new_c, new_h


class LSTM(StatelessLSTM):
    """An LSTM that keeps its state from call to call; `reset_state()` forgets it. See `StatelessLSTM`.

    Where a minibatch is worked through in parts, each part has a state of its own.
    """

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        lateral_init: Any = None,
        upward_init: Any = None,
        bias_init: Any = None,
        forget_bias_init: Any = None,
    ) -> None:
        super().__init__(in_size, out_size, lateral_init, upward_init, bias_init, forget_bias_init)
        self._states: dict[int | None, tuple[Variable | None, Variable | None]] = {}  # by part of the minibatch

    def reset_state(self) -> None:
        """Forgets cell and output; call it at the start of a sequence. In a part of a minibatch, only those of it."""
        part = _part()
        if part is None:
            self._states = {}
        else:
            self._states.pop(part, None)

    @property
    def c(self) -> Variable | None:
        """The cell, shape (N, out_size); None at the start of a sequence."""
        return self._states.get(_part(), _NO_STATE)[0]

    @c.setter
    def c(self, c: Variable | None) -> None:
        self._states[_part()] = c, self.h

    @property
    def h(self) -> Variable | None:
        """The last output, shape (N, out_size); None at the start of a sequence."""
        return self._states.get(_part(), _NO_STATE)[1]

    @h.setter
    def h(self, h: Variable | None) -> None:
        self._states[_part()] = self.c, h

    def set_state(self, c: Variable | Array, h: Variable | Array) -> None:
        """Sets cell and output, each of shape (N, out_size)."""
        self._states[_part()] = as_variable(c), as_variable(h)

    def to_device(self, device: Any) -> Any:
        """Moves parameters and state to a device."""
        super().to_device(device)
        for state in itertools.chain(*self._states.values()):
            if state is not None:
                state.to_device(device)
        return self

    def forward(self, x: Variable | Array) -> Variable:  # type: ignore[override]
        """One step.

        Args:
            x: shape (N, in_size). N may shrink from step to step (sequences sorted by falling length); the state
                of the rows beyond N stays as it was.

        Returns:
            shape (N, out_size).
        """
        part = _part()
        n, (c, h) = len(x), self._states.get(part, _NO_STATE)
        if h is not None and n > len(h):
            raise ArgumentError(
                f"the batch grew from {len(h)} to {n} sequences within one run; call reset_state() before a new one"
            )
        if c is None or h is None or len(h) == n:
            self._states[part] = new_c, new_h = super().forward(c, h, x)
            return new_h
        new_c, new_h = super().forward(c[:n], h[:n], x)
        self._states[part] = concat([new_c, c[n:]], axis=0), concat([new_h, h[n:]], axis=0)
        return new_h


def _part() -> int | None:
    share = minibatch.current()
    return None if share is None else share.part
