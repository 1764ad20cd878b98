"""`Chain` and `ChainList`: links made of links."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from distrain.errors import ArgumentError
from distrain.links.link import Link, Structure
from distrain.links.missing import Missing


class Chain(Link):
    """A link with named children.

        class MLP(distrain.Chain):
            def __init__(self, n_units, n_out):
                super().__init__()
                with self.init_scope():
                    self.l1 = L.Linear(None, n_units)
                    self.l2 = L.Linear(None, n_out)

            def forward(self, x):
                return self.l2(F.relu(self.l1(x)))

    Args:
        links: children by name, another way to register them.
    """

    _children: dict[str, None] = Missing()  # type: ignore[assignment]

    def __init__(self, **links: Link) -> None:
        super().__init__()
        self._children = {}
        for name, link in links.items():
            self.add_link(name, link)

    def _assign(self, name: str, value: Any) -> None:
        registered = name in self.__dict__.get("_children", ())
        if isinstance(value, Link):
            if self._in_scope or registered:
                self._register_link(name, value)
        elif registered:
            del self._children[name]
            Structure.version += 1
        super()._assign(name, value)

    def _register_link(self, name: str, link: Link) -> None:
        self._require_init()
        link.name = name
        self._children[name] = None
        self._registered.add(name)
        Structure.version += 1

    def __delattr__(self, name: str) -> None:
        self._children.pop(name, None)
        super().__delattr__(name)

    def __getitem__(self, name: str) -> Link:
        """The child of that name.

        Raises:
            KeyError: there is none.
        """
        if name not in self._children:
            raise KeyError(f"{type(self).__name__} has no child {name!r}; its children are {', '.join(self._children)}")
        child: Link = self.__dict__[name]
        return child

    def add_link(self, name: str, link: Link) -> None:
        """Registers a child.

        Raises:
            ArgumentError: there is an attribute of that name, or it is not a link.
        """
        self._require_free(name)
        if not isinstance(link, Link):
            raise ArgumentError(f"the child {name!r} must be a Link, not {type(link).__name__}")
        self._register_link(name, link)
        object.__setattr__(self, name, link)

    def children(self) -> Iterator[Link]:
        """The links directly below."""
        return iter([self.__dict__[name] for name in self._children])

    def named_children(self) -> Iterator[tuple[str, Link]]:
        """The links directly below, with their names."""
        return iter([(name, self.__dict__[name]) for name in self._children])

    def _copy(self, mode: str, memo: dict[int, Any]) -> Self:
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        other = super()._copy(mode, memo)
        object.__setattr__(other, "_children", dict(self._children))
        for name in self._children:
            child = self.__dict__[name]._copy(mode, memo)
            child.name = name
            object.__setattr__(other, name, child)
        return other

    def serialize(self, serializer: Any) -> None:
        """Reads or writes everything below, each child under its name."""
        super().serialize(serializer)
        for name, child in self.named_children():
            child.serialize(serializer[name])


class ChainList(Link):
    """A link with numbered children.

    layers = distrain.ChainList(L.Linear(784, 50), L.Linear(50, 10))
    layers[0]
    """

    _links: list[Link] = Missing()  # type: ignore[assignment]

    def __init__(self, *links: Link) -> None:
        super().__init__()
        self._links = []
        for link in links:
            self.add_link(link)

    def _assign(self, name: str, value: Any) -> None:
        if self._in_scope and isinstance(value, Link):
            raise ArgumentError(f"a ChainList has no named children: use add_link(link) instead of assigning {name!r}")
        super()._assign(name, value)

    def add_link(self, link: Link) -> None:
        """Appends a child.

        Raises:
            ArgumentError: it is not a link.
        """
        self._require_init()
        if not isinstance(link, Link):
            raise ArgumentError(f"child {len(self._links)} must be a Link, not {type(link).__name__}")
        self._links.append(link)
        self._renumber()

    append = add_link

    def extend(self, links: Iterable[Link]) -> None:
        """Appends children."""
        for link in links:
            self.add_link(link)

    def _renumber(self) -> None:
        for i, link in enumerate(self._links):
            link.name = str(i)
        Structure.version += 1

    def __getitem__(self, index: Any) -> Any:
        """The child of that number, or a list of children for a slice."""
        return self._links[index]

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._links)

    def children(self) -> Iterator[Link]:
        """The links directly below."""
        return iter(self._links)

    def named_children(self) -> Iterator[tuple[str, Link]]:
        """The links directly below, with their numbers as names."""
        return iter([(str(i), link) for i, link in enumerate(self._links)])

    def _copy(self, mode: str, memo: dict[int, Any]) -> Self:
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        other = super()._copy(mode, memo)
        object.__setattr__(other, "_links", [link._copy(mode, memo) for link in self._links])
        other._renumber()
        return other

    def serialize(self, serializer: Any) -> None:
        """Reads or writes everything below, each child under its number."""
        super().serialize(serializer)
        for name, child in self.named_children():
            child.serialize(serializer[name])
