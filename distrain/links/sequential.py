"""`Sequential`: links and functions called one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from distrain.errors import ArgumentError
from distrain.links.chain import ChainList
from distrain.links.link import Link
from distrain.links.missing import Missing

Layer = Callable[..., Any]


class Sequential(ChainList):
    """Calls its layers one after the other; a layer is a link or any function.

        model = distrain.Sequential(L.Linear(None, 50), F.relu, L.Linear(None, 10))
        y = model(x)

    A layer that gives a tuple feeds the next one with several arguments.
    """

    _layers: list[Layer] = Missing()  # type: ignore[assignment]

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        self._layers = []
        for layer in layers:
            self.append(layer)

    def forward(self, *args: Any) -> Any:
        """Calls the layers one after the other."""
        for layer in self._layers:
            y = layer(*args)
            args = y if isinstance(y, tuple) else (y,)
        return args[0] if len(args) == 1 else args

    def insert(self, index: int, layer: Layer) -> None:
        """Inserts a layer before the one of that number.

        Raises:
            ArgumentError: it cannot be called.
        """
        if not callable(layer):
            raise ArgumentError(f"layer {index} must be a link or a function, not {type(layer).__name__}")
        self._layers.insert(index, layer)
        self._links[:] = [layer for layer in self._layers if isinstance(layer, Link)]
        self._renumber()

    def append(self, layer: Layer) -> None:
        """Appends a layer."""
        self.insert(len(self._layers), layer)

    add_link = append  # type: ignore[assignment]

    def extend(self, layers: Iterable[Layer]) -> None:
        """Appends layers."""
        for layer in layers:
            self.append(layer)

    def flatten(self) -> Sequential:
        """A Sequential with the layers of nested ones in place of these."""
        flat = Sequential()
        for layer in self._layers:
            flat.extend(layer.flatten() if isinstance(layer, Sequential) else [layer])
        return flat

    def __getitem__(self, index: Any) -> Any:
        """The layer of that number, or a Sequential for a slice."""
        return Sequential(*self._layers[index]) if isinstance(index, slice) else self._layers[index]

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def _copy(self, mode: str, memo: dict[int, Any]) -> Self:
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        other = Link._copy(self, mode, memo)
        layers = [layer._copy(mode, memo) if isinstance(layer, Link) else layer for layer in self._layers]
        object.__setattr__(other, "_layers", layers)
        object.__setattr__(other, "_links", [layer for layer in layers if isinstance(layer, Link)])
        other._renumber()
        return other


Link._sequential_class = Sequential
