"""The protocol by which objects write and read their state.

An object has one method for both directions. It hands every value over and keeps what comes back:

    def serialize(self, serializer):
        self.epoch = serializer("epoch", self.epoch)
        self.rule.serialize(serializer["rule"])

A writer returns the value it was given; a reader returns the one from the file. Arrays are filled in place.
A reader may run `serialize` once for a rehearsal in which every value comes back unchanged (None included), so
reading must depend on nothing but the returned values, and an object whose structure is in the file asks for it
with None and does nothing when None comes back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, Self


class Serializable(Protocol):
    """Anything with a `serialize(serializer)` method."""

    def serialize(self, serializer: Any) -> None:
        """Hands every value of its state to the serializer and keeps what comes back."""


class AbstractSerializer(ABC):
    """What an object's `serialize` is given: a writer or a reader at one place of the key hierarchy.

    Attributes:
        is_writer: whether values go out (saving) rather than come in (loading).
    """

    is_writer: bool

    @abstractmethod
    def __getitem__(self, key: str) -> Self:
        """The serializer of a child; its keys begin with `key` and a slash."""

    @abstractmethod
    def __call__(self, key: str, value: Any) -> Any:
        """Writes or reads one value.

        Args:
            key: the name of the value, without the path that leads here.
            value: an array, a number, a string or None. A reader fills an array in place, gives back a scalar of the
                type of `value`, and takes None for "whatever the file holds".

        Returns:
            What the object has to keep: `value` itself from a writer, the value of the file from a reader.
        """

    def lenient(self) -> Self:
        """The serializer of the same place, for state that an older file need not have.

        What the file lacks there is left as it is, and one warning at the end of the load names it. The trainer reads
        its extensions this way, so that a run goes on after an extension was added.
        """
        return self

    def optional(self) -> Self:
        """The serializer of the same place, for state that not every training has, such as a choice of several ranks.

        What the file lacks there is left as it is, without a warning.
        """
        return self


class Serializer(AbstractSerializer):
    """A writer."""

    is_writer = True

    def save(self, obj: Serializable) -> None:
        """Writes the state of an object at this place."""
        obj.serialize(self)


class Deserializer(AbstractSerializer):
    """A reader."""

    is_writer = False

    def load(self, obj: Serializable) -> None:
        """Reads the state of an object from this place."""
        obj.serialize(self)
