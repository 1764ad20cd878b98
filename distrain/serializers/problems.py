"""What a load found wrong, collected and told at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

from distrain.errors import MismatchError
from distrain.serializers.archive import Source

SHOWN = 20  # keys of one kind in a message


@dataclass
class Problems:
    """The findings of one load; all keys with their paths.

    Attributes:
        asked: what the object asked for.
        missing: asked for at a strict place and not in the file.
        tolerated: asked for at a lenient place and not in the file.
        unreadable: pickled, so left alone.
        unfit: why the entry does not fit, by key.
    """

    asked: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unfit: dict[str, str] = field(default_factory=dict)

    def raise_mismatch(self, source: Source, path: str, owner: str, surplus: list[str]) -> None:
        """Raises the one error that lists everything; does nothing if there is nothing to list.

        Args:
            source: the file.
            path: the place in it that was read.
            owner: what was to be filled.
            surplus: the keys below that place that nobody asked for.

        Raises:
            MismatchError: something is missing or does not fit.
        """
        if not self.missing and not self.unfit:
            return
        lines = [f"{source.name} does not belong to this {owner}" + (f" (read at path {path!r})" if path else "")]
        lines += _listing("missing in the file", self.missing)
        lines += _listing("different", [f"{key} ({reason})" for key, reason in self.unfit.items()])
        lines += _listing("surplus in the file", surplus)
        elsewhere = _elsewhere(self.missing, source, path)
        if elsewhere is not None:
            lines.append(f"The file has all of the missing keys below {elsewhere!r}: pass path={elsewhere!r}.")
        else:
            lines.append(
                "Load the file that was saved from such an object"
                + ("." if self.unfit else "; strict=False leaves what is missing as it is.")
            )
        raise MismatchError("\n".join(lines))

    def warn(self, name: str) -> None:
        """Warns of what was left as it is: one warning for what is missing, one for what is pickled."""
        if self.tolerated:
            kept = "\n".join(_listing("missing in the file, left as it is", _unique(self.tolerated)))
            warnings.warn(f"{name}:\n{kept}", stacklevel=5)
        if self.unreadable:
            keys = "\n".join(_listing("pickled (Chainer wrote None so), left as it is", _unique(self.unreadable)))
            warnings.warn(f"{name}: nothing is unpickled\n{keys}", stacklevel=5)


def _unique(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(keys))  # the rehearsal and the second step find the same


def _listing(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = [f"    … and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [f"  {title}: {len(items)}", *(f"    {item}" for item in items[:SHOWN]), *more]


def _elsewhere(missing: list[str], source: Source, path: str) -> str | None:
    """A place in the file that has everything that is missing."""
    if not missing:
        return None
    wanted = [key.removeprefix(path) for key in missing]
    for key in source.keys():
        if key.endswith("/" + wanted[0]):
            place = key.removesuffix(wanted[0])
            if all(place + name in source for name in wanted):
                return place
    return None
