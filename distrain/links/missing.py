"""What stands in for the attributes of a link whose `__init__` was not called."""

from __future__ import annotations

from typing import Any

from distrain.errors import ArgumentError


class Missing:
    """Stands in a class for an attribute that `__init__` sets, and says so where that was not called.

    A `__getattr__` could say it too, but would slow down every look-up of an attribute of any link.
    """

    def __get__(self, link: Any, kind: type) -> Missing:
        """Itself from the class.

        Raises:
            ArgumentError: from a link.
        """
        if link is not None:
            raise ArgumentError(f"call super().__init__() first in {kind.__name__}.__init__")
        return self
