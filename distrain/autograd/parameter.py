"""`Parameter`: a Variable that is trained, possibly before its size is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distrain import backend, rng
from distrain.autograd.variable import Variable
from distrain.backend import Array
from distrain.config import config
from distrain.errors import ArgumentError

Initializer = Callable[[Array], None]
"""Fills the array it is given. May have an attribute `dtype`."""


class Parameter(Variable):
    """An array that an optimizer trains.

    Args:
        initializer: an array; a number; or a function that fills the array it is given. None leaves NaN.
        shape: shape of the array; None leaves the parameter without size until `initialize` is called.
        name: for error messages.

    An initializer that draws random numbers finds NumPy's global generator seated at a state that depends on the
    job's seed and on how many parameters were made before, so that every rank draws the same numbers, whether the
    parameter gets its size now or in the first forward pass.

    Attributes:
        initializer: as given.
        update_rule: what updates it; set by `Optimizer.setup`.
        on_grad: called when the backward pass has added to its gradient; set while gradients are sent early.
    """

    def __init__(
        self, initializer: Any = None, shape: int | tuple[int, ...] | None = None, name: str | None = None
    ) -> None:
        self.initializer = initializer
        self.update_rule: Any = None
        self._ordinal = rng.next_ordinal()
        self._device: backend.Device = backend.CPU
        self._grad_view: Array | None = None  # its part of an optimizer's flat gradient
        self.on_grad: Callable[[Parameter], None] | None = None
        self._bound = False  # its array is a part of an optimizer's flat parameters
        super().__init__(None, name=name)
        if isinstance(initializer, np.ndarray) or backend.is_gpu_array(initializer):
            if shape is not None and initializer.shape != ((shape,) if isinstance(shape, int) else tuple(shape)):
                raise ArgumentError(f"shape {shape} was asked for, but the initial array has shape {initializer.shape}")
            Variable.array.__set__(self, initializer)  # type: ignore[attr-defined]
            self.initializer = initializer.copy()  # training changes the array itself
        elif shape is not None:
            self.initialize((shape,) if isinstance(shape, int) else tuple(shape))

    @property
    def array(self) -> Array:
        """The array; None before it has a size.

        Assigning to it copies into the flat parameters of the optimizer, if there is one.
        """
        return self._array

    @array.setter
    def array(self, array: Array) -> None:
        if self._bound and array is not None and array.shape == self.shape and array.dtype == self.dtype:
            if array is not self._array:
                backend.copyto(self._array, array)
            return
        self.unbind()
        Variable.array.__set__(self, array)  # type: ignore[attr-defined]

    data = array

    @property
    def is_initialized(self) -> bool:
        """Whether it has a size and numbers."""
        return self._array is not None

    def initialize(self, shape: tuple[int, ...]) -> None:
        """Gives it a size and its first numbers; drawn on the host, so that every device starts alike.

        Args:
            shape: shape of the array.
        """
        dtype = np.dtype(getattr(self.initializer, "dtype", None) or config.dtype)
        array = np.full(shape, np.nan, dtype)
        if callable(self.initializer):
            with rng.legacy_seated("init", self._ordinal):
                self.initializer(array)
        elif self.initializer is not None:
            array.fill(self.initializer)
        Variable.array.__set__(self, self._device.send(array))  # type: ignore[attr-defined]

    # Gradients

    @property
    def grad(self) -> Array | None:
        """Its gradient, same shape and dtype; None if it was cleared and no backward pass has reached it since."""
        if self._grad is None and self._grad_var is not None:
            return self._grad_var.array
        return self._grad

    @grad.setter
    def grad(self, grad: Array | None) -> None:
        self._check_grad(grad)
        self._grad_var = None
        if grad is None or self._grad_view is None:
            self._grad = grad
            return
        if grad is not self._grad_view:
            backend.copyto(self._grad_view, grad)
        self._grad = self._grad_view

    def cleargrad(self) -> None:
        """Forgets the gradient."""
        self._grad = self._grad_var = None

    def zerograd(self) -> None:
        """Sets the gradient to zeros; nothing to do before the parameter has a size."""
        if self._array is not None:
            self.grad = self.xp.zeros_like(self._array)

    def receive_grad(self, grad: Array) -> None:
        """Adds a gradient to what is there."""
        if grad is self._grad_view and self._grad is None and self._grad_var is None:  # it was written there already
            self._grad = grad
            return
        if self._grad_var is not None:
            self.grad = self.grad  # out of a recorded backward pass: store the numbers, drop their graph
        if self._grad is None:
            view = self._grad_view
            if view is None:
                self._grad = np.asarray(grad) if isinstance(grad, np.generic) else grad
            else:
                if grad is not view:
                    view[...] = grad
                self._grad = view
        elif self._grad_view is None:
            total = self._grad + grad  # the array may be shared with another variable: never in place
            self._grad = np.asarray(total) if isinstance(total, np.generic) else total
        else:
            self._grad += grad
        if self.on_grad is not None:
            self.on_grad(self)

    def grad_place(self) -> Array | None:
        """The part of the flat gradient that is his and still empty, if there is one."""
        return self._grad_view if self._grad is None and self._grad_var is None else None

    def settle_grad(self) -> None:
        """Puts a gradient that came as a Variable (double backprop) where the optimizer looks for it."""
        if self._grad is None and self._grad_var is not None:
            self.grad = self._grad_var.array

    # Flat parameters

    def bind(self, array: Array, grad: Array) -> None:
        """Moves the numbers into `array` and coming gradients into `grad`, views of an optimizer's flat buffers."""
        backend.copyto(array, self._array)
        old = self.grad
        Variable.array.__set__(self, array)  # type: ignore[attr-defined]
        self._bound, self._grad_view = True, grad
        self._grad = self._grad_var = None
        if old is not None:
            self.grad = old

    def unbind(self) -> None:
        """Leaves the flat buffers; the numbers stay what they are."""
        if self._bound:
            grad = self.grad
            self._bound, self._grad_view = False, None
            Variable.array.__set__(self, self._array.copy())  # type: ignore[attr-defined]
            self._grad = None if grad is None else grad.copy()

    @property
    def is_bound(self) -> bool:
        """Whether the array is a part of an optimizer's flat parameters."""
        return self._bound

    def to_device(self, device: Any) -> None:
        """Moves it to a device, or notes the device for when it gets a size."""
        self._device = target = backend.get_device(device)
        if self._array is None:
            return
        moved = target.send(self._array)
        if moved is not self._array:
            self.unbind()
            grad = self.grad
            Variable.array.__set__(self, moved)  # type: ignore[attr-defined]
            self._grad = None if grad is None else target.send(grad)

    def update(self) -> None:
        """Updates it by its update rule, if it has one."""
        if self.update_rule is not None:
            self.update_rule.update(self)

    def __copy__(self) -> Parameter:
        """A parameter of its own that shares the array, outside of flat buffers."""
        copy = self.clone()
        Variable.array.__set__(copy, self._array)  # type: ignore[attr-defined]
        return copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        return self.clone()

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.initializer, self.name, self._ordinal, self._device.name, self._array, self.grad)
        return _unpickled, (type(self), *state, self._node.requires_grad)

    def clone(self) -> Parameter:
        """A parameter of its own with the same numbers; without an update rule and outside of flat buffers."""
        copy = Parameter(self.initializer, name=self.name)
        copy.__class__ = self.__class__
        copy._ordinal, copy._device = self._ordinal, self._device
        if self._array is not None:
            Variable.array.__set__(copy, self._array.copy())  # type: ignore[attr-defined]
        grad = self.grad
        copy._grad = None if grad is None else grad.copy()
        copy._node.requires_grad = self._node.requires_grad
        return copy


def _unpickled(
    kind: type[Parameter],
    initializer: Any,
    name: str | None,
    ordinal: int,
    device: str,
    array: Array | None,
    grad: Array | None,
    requires_grad: bool,
) -> Parameter:
    """A parameter that was pickled: like `Parameter.clone`, without an update rule and outside of flat buffers."""
    param = Parameter(initializer, name=name)
    param.__class__ = kind
    param._ordinal, param._device = ordinal, backend.get_device(device)
    if array is not None:
        Variable.array.__set__(param, array)  # type: ignore[attr-defined]
    param._grad = grad
    param._node.requires_grad = requires_grad
    return param
