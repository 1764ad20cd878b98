"""`Link`: parameters and the function that uses them."""

from __future__ import annotations

import copy as copying
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from distrain import backend
from distrain.autograd import Parameter
from distrain.backend import Array
from distrain.errors import ArgumentError, InvalidType
from distrain.initializers import NaN
from distrain.links.copies import copy_of, copy_params, require_same
from distrain.links.error_path import add_to_path, with_path
from distrain.links.missing import Missing


class Structure:
    """A count of the changes to the structure of any model, so that nobody has to walk the tree to find one."""

    version = 0


class Link:
    """Parameters, persistent values and the function that uses them.

        class Scale(distrain.Link):
            def __init__(self, n):
                super().__init__()
                with self.init_scope():
                    self.s = distrain.Parameter(1.0, (n,))

            def forward(self, x):
                return x * self.s

    Parameters assigned inside `init_scope` are registered. Persistent values (`add_persistent`) are saved with the
    model but not trained.

    Attributes:
        name: name in the chain that holds it; None at the top.
    """

    name: str | None = None
    _in_scope = False
    _registered: set[str] = frozenset()  # type: ignore[assignment]    # names of parameters and links, also past ones
    _params: dict[str, None] = Missing()  # type: ignore[assignment]    # names, in the order of registration
    _persistent: dict[str, None] = Missing()  # type: ignore[assignment]
    _device: backend.Device = Missing()  # type: ignore[assignment]
    _sequential_class: ClassVar[Any]  # set by sequential.py, which stands on this file

    def __init__(self) -> None:
        self._registered = set()
        self._params = {}
        self._persistent = {}
        self._device = backend.CPU

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in cls.__dict__:  # a class of Chainer's old style; errors must still say where they happened
            cls.__call__ = with_path(cls.__dict__["__call__"])  # type: ignore[method-assign]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls `forward`."""
        try:
            return self.forward(*args, **kwargs)
        except InvalidType as error:
            add_to_path(error, self)
            raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the link computes; defined by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} defines neither forward nor __call__")

    # Building

    @property
    def within_init_scope(self) -> bool:
        """Whether assignments register parameters and links just now."""
        return self._in_scope

    @contextmanager
    def init_scope(self) -> Iterator[None]:
        """A `with` block in which assigned parameters (and in chains, links) are registered."""
        self._require_init()
        before = self._in_scope
        object.__setattr__(self, "_in_scope", True)
        try:
            yield
        finally:
            object.__setattr__(self, "_in_scope", before)

    def _require_init(self) -> None:
        _ = self._params

    def __setattr__(self, name: str, value: Any) -> None:
        if self._in_scope or name in self._registered:  # anything else is an ordinary attribute
            self._assign(name, value)
        object.__setattr__(self, name, value)

    def _assign(self, name: str, value: Any) -> None:
        """Takes note of a value that is assigned in `init_scope`, or under a name that is or was registered."""
        registered = name in self.__dict__.get("_params", ())
        if isinstance(value, Parameter):
            if self._in_scope or registered:
                self._register_param(name, value)
        elif registered:
            del self._params[name]
            Structure.version += 1

    def _register_param(self, name: str, param: Parameter) -> None:
        self._require_init()
        if param.name is None:
            param.name = name
        self._params[name] = None
        self._registered.add(name)
        param.to_device(self._device)
        Structure.version += 1

    def __delattr__(self, name: str) -> None:
        self._params.pop(name, None)
        self._persistent.pop(name, None)
        Structure.version += 1
        object.__delattr__(self, name)

    def _require_free(self, name: str) -> None:
        self._require_init()
        if name in self.__dict__:
            raise ArgumentError(f"{type(self).__name__} has an attribute {name!r} already; choose another name")

    def add_param(
        self,
        name: str,
        shape: int | tuple[int, ...] | None = None,
        dtype: DTypeLike | None = None,
        initializer: Any = None,
    ) -> None:
        """Registers a new parameter.

        Raises:
            ArgumentError: there is an attribute of that name.
        """
        self._require_free(name)
        if dtype is not None and (callable(initializer) or not hasattr(initializer, "dtype")):
            initializer = _OfDtype(initializer, dtype)
        param = Parameter(initializer if initializer is not None else NaN(dtype), shape, name)
        self._register_param(name, param)
        object.__setattr__(self, name, param)

    def add_persistent(self, name: str, value: Any) -> None:
        """Adds an array or a number that is saved with the model but not trained.

        Raises:
            ArgumentError: there is an attribute of that name.
        """
        self._require_free(name)
        object.__setattr__(self, name, self._device.send(value))
        self.register_persistent(name)

    def register_persistent(self, name: str) -> None:
        """Makes an existing attribute persistent.

        Raises:
            ArgumentError: there is no such attribute.
        """
        if not hasattr(self, name):
            raise ArgumentError(f"{type(self).__name__} has no attribute {name!r} to make persistent")
        self._persistent[name] = None
        Structure.version += 1

    # Walking

    def children(self) -> Iterator[Link]:
        """The links directly below."""
        return iter(())

    def named_children(self) -> Iterator[tuple[str, Link]]:
        """The links directly below, with their names."""
        return iter(())

    def params(self, include_uninit: bool = True) -> Iterator[Parameter]:
        """All parameters below, each once.

        Args:
            include_uninit: also those that have no size yet.
        """
        return (param for _, param in self.namedparams(include_uninit))

    def namedparams(self, include_uninit: bool = True) -> Iterator[tuple[str, Parameter]]:
        """All parameters below with their paths, such as "/predictor/l1/W"; a shared one once, by its first path."""
        seen: set[int] = set()
        for prefix, link in self.namedlinks():
            for name in link._params:
                param = link.__dict__[name]
                if id(param) not in seen and (include_uninit or param.is_initialized):
                    seen.add(id(param))
                    yield f"{'' if prefix == '/' else prefix}/{name}", param

    def namedpersistents(self) -> Iterator[tuple[str, Any]]:
        """All persistent values below with their paths."""
        for prefix, link in self.namedlinks():
            for name in link._persistent:
                yield f"{'' if prefix == '/' else prefix}/{name}", link.__dict__[name]

    def links(self, skipself: bool = False) -> Iterator[Link]:
        """This link and all below it, each before its children."""
        return (link for _, link in self.namedlinks(skipself))

    def namedlinks(self, skipself: bool = False) -> Iterator[tuple[str, Link]]:
        """This link ("/") and all below it with their paths."""
        if not skipself:
            yield "/", self
        for name, child in self.named_children():
            for path, link in child.namedlinks():
                yield f"/{name}" if path == "/" else f"/{name}{path}", link

    def count_params(self) -> int:
        """Number of trained numbers; a parameter without size counts nothing."""
        return sum(param.size for param in self.params(include_uninit=False))

    # Gradients and updates

    def cleargrads(self) -> None:
        """Forgets the gradients of all parameters. Call it before `backward`."""
        for name in self._params:
            self.__dict__[name].cleargrad()
        for child in self.children():
            child.cleargrads()

    def zerograds(self) -> None:
        """Sets the gradients of all parameters to zeros."""
        for param in self.params():
            param.zerograd()

    def addgrads(self, link: Link) -> None:
        """Adds the gradients of a link of the same structure to this one's.

        Raises:
            ArgumentError: the other link has other parameters, or other shapes.
        """
        mine, theirs = dict(self.namedparams()), dict(link.namedparams())
        require_same(mine, theirs)
        for path, param in mine.items():
            param.addgrad(theirs[path])

    def copyparams(self, link: Link, copy_persistent: bool = True) -> None:
        """Copies the numbers of a link of the same structure into this one.

        Args:
            link: where the numbers come from.
            copy_persistent: also copy persistent values.

        Raises:
            ArgumentError: the other link has other parameters, or other shapes.
        """
        copy_params(link, self, copy_persistent)

    def enable_update(self) -> None:
        """Lets the optimizer update all parameters below."""
        self._enable_update(True)

    def disable_update(self) -> None:
        """Keeps the optimizer from updating any parameter below (call it after `Optimizer.setup`)."""
        self._enable_update(False)

    def _enable_update(self, enabled: bool) -> None:
        for param in self.params():
            if param.update_rule is not None:
                param.update_rule.enabled = enabled

    @property
    def update_enabled(self) -> bool:
        """Whether the optimizer updates any parameter below."""
        return any(param.update_rule is not None and param.update_rule.enabled for param in self.params())

    # Devices

    @property
    def device(self) -> backend.Device:
        """Where the parameters are, or will be."""
        return self._device

    @property
    def xp(self) -> Any:
        """`numpy` or `cupy`."""
        return self._device.xp

    def to_device(self, device: Any) -> Self:
        """Moves parameters and persistent values to a device; those without size follow when they get one.

        Raises:
            DeviceError: there is no such device.
        """
        target = backend.get_device(device)
        for link in self.links():
            object.__setattr__(link, "_device", target)
            for name in link._params:
                link.__dict__[name].to_device(target)
            for name in link._persistent:
                object.__setattr__(link, name, target.send(link.__dict__[name]))
        return self

    def to_cpu(self) -> Self:
        """Moves parameters and persistent values to host memory."""
        return self.to_device(-1)

    def to_gpu(self, device: int | None = None) -> Self:
        """Moves parameters and persistent values to a GPU; to the first if none is named.

        Raises:
            DeviceError: there is no such GPU.
        """
        return self.to_device(0 if device is None else device)

    # Copies and files

    def copy(self, mode: str = "share") -> Self:
        """A copy of the link.

        Args:
            mode: "share": the same parameters; "copy": parameters of its own with the same numbers; "init":
                parameters of its own, initialised anew.

        Raises:
            ArgumentError: another mode.
        """
        if mode not in ("share", "copy", "init"):
            raise ArgumentError(f"mode must be 'share', 'copy' or 'init', not {mode!r}")
        return self._copy(mode, {})

    def _copy(self, mode: str, memo: dict[int, Any]) -> Self:
        """`copy`, in which what is used in several places stays one thing."""
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        memo[id(self)] = other = copying.copy(self)
        other.name = None
        object.__setattr__(other, "_registered", set(self._registered))
        object.__setattr__(other, "_params", dict(self._params))
        object.__setattr__(other, "_persistent", dict(self._persistent))
        if mode != "share":
            for name in self._params:
                param = self.__dict__[name]
                if id(param) not in memo:
                    memo[id(param)] = copy_of(param, mode)
                object.__setattr__(other, name, memo[id(param)])
            for name in self._persistent:
                object.__setattr__(other, name, copying.deepcopy(self.__dict__[name]))
        return other

    def repeat(self, n_repeat: int, mode: str = "init") -> Any:
        """A `Sequential` of that many copies of this link.

        Args:
            n_repeat: number of copies.
            mode: see `copy`.
        """
        return self._sequential_class(*[self.copy(mode) for _ in range(n_repeat)])

    def serialize(self, serializer: Any) -> None:
        """Reads or writes parameters and persistent values."""
        for name in self._params:
            param = self.__dict__[name]
            data = serializer(name, param.array)
            if param.array is None and data is not None:
                param.initialize(data.shape)
                backend.copyto(param.array, data)  # keeps the dtype of the model, not of the file
        for name in self._persistent:
            object.__setattr__(self, name, self._device.send(serializer(name, self.__dict__[name])))


class _OfDtype:
    """An initializer with a dtype."""

    def __init__(self, initializer: Any, dtype: DTypeLike) -> None:
        self.initializer, self.dtype = initializer, dtype

    def __call__(self, array: Array) -> None:
        if callable(self.initializer):
            self.initializer(array)
        else:
            array[...] = np.nan if self.initializer is None else self.initializer
