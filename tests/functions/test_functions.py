from __future__ import annotations

import inspect

import distrain.functions as F


def test_every_name_is_a_function_with_a_docstring():
    assert F.__all__ == sorted(F.__all__)
    for name in F.__all__:
        func = getattr(F, name)
        assert inspect.isfunction(func), name
        assert func.__doc__, name


def test_nothing_else_leaks():
    public = {name for name, value in vars(F).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == set(F.__all__)
