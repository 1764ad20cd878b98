"""How values observed anywhere in the code get to whoever collects them.

    reporter = Reporter()
    reporter.add_observer("main", model)
    with reporter, reporter.scope(observation):
        model(x, t)                      # calls report({"loss": loss}, self)
    observation["main/loss"]

Each thread has its own stack of reporters; `report` goes to the innermost and does nothing where there is none.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from distrain.config import config
from distrain.errors import ArgumentError
from distrain.reporting.detached import Detached


class _Stack(threading.local):
    def __init__(self) -> None:
        self.reporters: list[Reporter] = []


_stack = _Stack()


class Reporter:
    """Writes reported values under the names of their observers.

    Attributes:
        observation: the dictionary that values are written to at the moment.
    """

    def __init__(self) -> None:
        self.observation: dict[str, Any] = {}
        self._prefixes: dict[int, str] = {}
        self._observers: dict[int, Any] = {}  # kept alive: the id of a dead object may be given to a new one

    def __enter__(self) -> Reporter:
        """Makes it the current reporter of this thread."""
        _stack.reporters.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Makes the previous reporter of this thread the current one again."""
        _stack.reporters.pop()

    @staticmethod
    def current() -> Reporter | None:
        """The innermost reporter of this thread, if there is one."""
        return _stack.reporters[-1] if _stack.reporters else None

    @contextmanager
    def scope(self, observation: dict[str, Any]) -> Iterator[None]:
        """Writes to another dictionary for the length of a `with` block."""
        before, self.observation = self.observation, observation
        try:
            yield
        finally:
            self.observation = before

    def add_observer(self, name: str, observer: Any) -> None:
        """Registers an object that reports; its values appear as `name/key`.

        Args:
            name: an earlier name of the same object is replaced.
            observer: any object; it is known by its identity.
        """
        self._observers[id(observer)] = observer
        self._prefixes[id(observer)] = name.rstrip("/") + "/"

    def add_observers(self, prefix: str, observers: Iterable[tuple[str, Any]]) -> None:
        """Registers many objects.

        Args:
            prefix: put before each name.
            observers: pairs (name, observer), such as `model.namedlinks()` gives: `("/predictor/l1", link)`.
        """
        for name, observer in observers:
            self.add_observer(prefix + name, observer)

    def report(self, values: Mapping[str, Any], observer: Any = None) -> None:
        """Writes values to the current observation.

        A Variable is stored without its graph (as `Detached`, which has `.array` and converts with `float()`), unless
        `config.keep_graph_on_report` is set.

        Args:
            values: by key.
            observer: whose values they are; None writes the keys as they are.

        Raises:
            ArgumentError: the observer is not registered.
        """
        if observer is None:
            prefix = ""
        else:
            try:
                prefix = self._prefixes[id(observer)]
            except KeyError:
                raise ArgumentError(self._unknown(observer, values)) from None
        observation = self.observation
        for key, value in values.items():
            if hasattr(value, "creator") and not config.keep_graph_on_report:  # only Variables have a creator
                value = Detached(value.array)
            observation[prefix + key] = value

    def _unknown(self, observer: Any, values: Mapping[str, Any]) -> str:
        names = ", ".join(repr(prefix[:-1]) for prefix in self._prefixes.values()) or "none"
        return (
            f"a {type(observer).__name__} reported {', '.join(map(repr, values))}, but is not registered; registered "
            f"observers: {names}. Call add_observer(name, observer), or report without an observer."
        )


def get_current_reporter() -> Reporter:
    """The innermost reporter of this thread.

    Raises:
        ArgumentError: there is none.
    """
    if not _stack.reporters:
        raise ArgumentError("this thread has no current reporter; enter one: `with reporter:`")
    return _stack.reporters[-1]


def report(values: Mapping[str, Any], observer: Any = None) -> None:
    """Reports values to the current reporter of this thread; does nothing where there is none.

    Args:
        values: by key; see `DictSummary.add` for what is averaged.
        observer: the registered object whose values they are, usually the link that calls.

    Raises:
        ArgumentError: the observer is not registered.
    """
    reporters = _stack.reporters
    if reporters:
        reporters[-1].report(values, observer)


@contextmanager
def report_scope(observation: dict[str, Any]) -> Iterator[None]:
    """The current reporter writes to this dictionary for the length of a `with` block.

    Raises:
        ArgumentError: this thread has no current reporter.
    """
    with get_current_reporter().scope(observation):
        yield
