"""Hyperparameters: one value for all parameters, or one of its own for some."""

from __future__ import annotations

from typing import Any


class Hyperparameter:
    """Values by name, falling back to a parent.

    The optimizer holds the parent; the update rule of a parameter holds a child, in which a value can be set for this
    parameter alone: `model.l1.W.update_rule.hyperparam.lr = 0.01`.
    """

    def __init__(self, parent: Hyperparameter | None = None) -> None:
        object.__setattr__(self, "_parent", parent)

    def __getattr__(self, name: str) -> Any:  # reached only for what is not set here
        if name.startswith("__"):  # copy and pickle ask for these before there is anything in here
            raise AttributeError(name)
        parent = self.__dict__.get("_parent")
        if parent is None:
            raise AttributeError(f"there is no hyperparameter {name!r}; there are {', '.join(self.get_dict())}")
        return getattr(parent, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._parent is not None:
            getattr(self._parent, name)  # a misspelt name would be silently without effect
        object.__setattr__(self, name, value)

    @property
    def parent(self) -> Hyperparameter | None:
        """Where values come from that are not set here."""
        parent: Hyperparameter | None = self._parent
        return parent

    @property
    def has_own(self) -> bool:
        """Whether any value is set here."""
        return len(self.__dict__) > 1

    @property
    def source(self) -> Hyperparameter:
        """Where all values can be read from: the parent while nothing is set here, which saves each its way there."""
        parent: Hyperparameter | None = self._parent
        return self if parent is None or len(self.__dict__) > 1 else parent

    def get_dict(self) -> dict[str, Any]:
        """All values by name, the parent's included."""
        values = self._parent.get_dict() if self._parent is not None else {}
        values.update({name: value for name, value in self.__dict__.items() if name != "_parent"})
        return values

    def __repr__(self) -> str:
        return f"Hyperparameter({', '.join(f'{name}={value}' for name, value in self.get_dict().items())})"


class HyperparameterProxy:
    """An attribute of an optimizer that stands for its hyperparameter of that name: `optimizer.lr`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.__doc__ = f"The hyperparameter {name}."

    def __get__(self, optimizer: Any, kind: type | None = None) -> Any:
        return self if optimizer is None else getattr(optimizer.hyperparam, self.name)

    def __set__(self, optimizer: Any, value: Any) -> None:
        setattr(optimizer.hyperparam, self.name, value)
