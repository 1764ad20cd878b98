"""The operators and methods of a Variable that compute: each is a function of `distrain.functions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distrain.autograd.operators import table

if TYPE_CHECKING:
    from distrain.autograd.variable import Variable


class Arithmetic:
    """What Variables can be part of: `x + y`, `x[1]`, `x.sum()`."""

    __array_priority__ = 200  # `ndarray * Variable` is the Variable's business
    __array_ufunc__ = None

    def __getitem__(self, index: Any) -> Variable:
        return table["getitem"](self, index)  # type: ignore[no-any-return]

    def reshape(self, *shape: Any) -> Variable:
        """The same numbers in another shape."""
        return table["reshape"](self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)  # type: ignore[no-any-return]

    def transpose(self, *axes: Any) -> Variable:
        """The same numbers with the axes in another order (reversed if none is given)."""
        if len(axes) == 1 and not isinstance(axes[0], int):
            axes = axes[0]
        return table["transpose"](self, axes or None)  # type: ignore[no-any-return]

    @property
    def T(self) -> Variable:
        """The transpose."""
        return self.transpose()

    def sum(self, axis: Any = None, keepdims: bool = False) -> Variable:
        """Sum over some or all axes."""
        return table["sum"](self, axis, keepdims)  # type: ignore[no-any-return]

    def mean(self, axis: Any = None, keepdims: bool = False) -> Variable:
        """Mean over some or all axes."""
        return table["mean"](self, axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Variable:
        """The same numbers as another dtype."""
        return table["cast"](self, dtype)  # type: ignore[no-any-return]

    def __neg__(self) -> Variable:
        return table["neg"](self)  # type: ignore[no-any-return]

    def __abs__(self) -> Variable:
        return table["absolute"](self)  # type: ignore[no-any-return]

    def __add__(self, other: Any) -> Variable:
        return table["add"](self, other)  # type: ignore[no-any-return]

    def __radd__(self, other: Any) -> Variable:
        return table["add"](other, self)  # type: ignore[no-any-return]

    def __sub__(self, other: Any) -> Variable:
        return table["sub"](self, other)  # type: ignore[no-any-return]

    def __rsub__(self, other: Any) -> Variable:
        return table["sub"](other, self)  # type: ignore[no-any-return]

    def __mul__(self, other: Any) -> Variable:
        return table["mul"](self, other)  # type: ignore[no-any-return]

    def __rmul__(self, other: Any) -> Variable:
        return table["mul"](other, self)  # type: ignore[no-any-return]

    def __truediv__(self, other: Any) -> Variable:
        return table["div"](self, other)  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> Variable:
        return table["div"](other, self)  # type: ignore[no-any-return]

    def __pow__(self, other: Any) -> Variable:
        return table["pow"](self, other)  # type: ignore[no-any-return]

    def __rpow__(self, other: Any) -> Variable:
        return table["pow"](other, self)  # type: ignore[no-any-return]

    def __matmul__(self, other: Any) -> Variable:
        return table["matmul"](self, other)  # type: ignore[no-any-return]

    def __rmatmul__(self, other: Any) -> Variable:
        return table["matmul"](other, self)  # type: ignore[no-any-return]
