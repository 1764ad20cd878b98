"""Where in a model an error happened: the path of the link, for its message."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distrain.errors import InvalidType

if TYPE_CHECKING:
    from distrain.links.link import Link


def with_path(call: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a link whose errors say in which link they happened."""

    @functools.wraps(call)
    def wrapped(self: Link, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(self, *args, **kwargs)
        except InvalidType as error:
            add_to_path(error, self)
            raise

    return wrapped


def add_to_path(error: InvalidType, link: Link) -> None:
    """Puts a link before the path that an error has come along."""
    if error.link is None:
        error.link = link
    below = next((path for path, other in link.namedlinks() if other is error.link), "/")
    error.link_path = ("" if link.name is None else f"/{link.name}") + ("" if below == "/" else below)
