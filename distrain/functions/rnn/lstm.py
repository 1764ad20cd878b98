"""One step of a long short-term memory (Hochreiter and Schmidhuber, 1997; with forget gate, Gers et al., 2000)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable, type_check
from distrain.backend import Array, get_array_module
from distrain.functions.activation.sigmoid import Sigmoid, Tanh
from distrain.functions.array.join import concat, stack


def _gates(x: Any) -> tuple[Any, Any, Any, Any]:
    """a, i, f, o of shape (n, units, ...), in kind; the four inputs of a unit are neighbours in x."""
    r = x.reshape((x.shape[0], x.shape[1] // 4, 4, *x.shape[2:]))
    return Tanh().on(r[:, :, 0]), Sigmoid().on(r[:, :, 1]), Sigmoid().on(r[:, :, 2]), Sigmoid().on(r[:, :, 3])


def _first(x: Any, n: int) -> Any:
    return x if x.shape[0] == n else x[:n]


class LSTM(Primitive):
    """See `lstm`."""

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        c, x = in_types
        type_check.expect_float("lstm", "c_prev", c)
        type_check.expect_float("lstm", "x", x)
        if c.ndim < 2 or x.ndim != c.ndim or x.shape[1:] != (4 * c.shape[1], *c.shape[2:]):
            wanted = (4 * c.shape[1], *c.shape[2:]) if c.ndim >= 2 else "(4 * units, ...)"
            expected = f"(n, ...) with {wanted} after n, 4 inputs a unit (c_prev has shape {c.shape})"
            raise type_check.refuse("lstm", "x", expected, type_check.describe(x))
        if x.shape[0] > c.shape[0]:
            expected = f"at most as many samples as c_prev, {c.shape[0]}"
            raise type_check.refuse("lstm", "x", expected, type_check.describe(x))
        if x.dtype != c.dtype:
            raise type_check.refuse("lstm", "x", f"the dtype of c_prev, {c.dtype}", type_check.describe(x))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        c_prev, x = inputs
        xp = get_array_module(x)
        n = x.shape[0]
        self.retain_inputs((0, 1))
        self.gates = a, i, f, o = _gates(x)
        c = a * i
        c += f * c_prev[:n]
        self.tanh_c = xp.tanh(c)
        if n < c_prev.shape[0]:
            c = xp.concatenate((c, c_prev[n:]))
        return c, o * self.tanh_c

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        gc, gh = grad_outputs
        like = gc if gh is None else gh
        c_prev, x = self.kept_inputs(like)
        n = x.shape[0]
        before = _first(c_prev, n)
        recorded = isinstance(like, Variable)
        a, i, f, o = _gates(x) if recorded else self.gates
        tanh_c = Tanh().on(a * i + f * before) if recorded else self.tanh_c
        g: Any = 0.0
        go: Any = o * 0.0
        if gh is not None:
            g = gh * o * (1 - tanh_c * tanh_c)
            go = gh * tanh_c * o * (1 - o)
        if gc is not None:
            g = g + _first(gc, n)
        gxs = []
        for index in target_input_indexes:
            if index == 0:
                gxs.append(self._longer(g * f, gc, c_prev))
            else:
                parts = [g * i * (1 - a * a), g * a * i * (1 - i), g * before * f * (1 - f), go]
                joined = stack(parts, axis=2) if recorded else get_array_module(x).stack(parts, axis=2)
                gxs.append(joined.reshape(x.shape))
        return gxs

    def _longer(self, g: Any, gc: Any, c_prev: Any) -> Any:
        """The gradient of c_prev, of which the last samples went through unchanged."""
        n = g.shape[0]
        if c_prev.shape[0] == n:
            return g
        rest = g.dtype.type(0) * c_prev[n:] if gc is None else gc[n:]
        return concat([g, rest], axis=0) if isinstance(g, Variable) else get_array_module(g).concatenate((g, rest))


def lstm(c_prev: Any, x: Any) -> tuple[Variable, Variable]:
    """One step of an LSTM without peephole connections.

    With a, i, f, o = x[:, 0::4], x[:, 1::4], x[:, 2::4], x[:, 3::4]:

        c = tanh(a) * sigmoid(i) + c_prev * sigmoid(f)
        h = tanh(c) * sigmoid(o)

    Args:
        c_prev: (N, units, ...), the cell state.
        x: (n, 4 * units, ...) with n <= N, the inputs of the gates, four neighbours a unit. Samples of c_prev beyond
            n keep their state (minibatches of sequences sorted by length).

    Returns:
        The new cell state, shape of c_prev, and the output h, (n, units, ...).

    Raises:
        InvalidType: shapes do not fit.
    """
    c, h = LSTM().apply((c_prev, x))
    return c, h
