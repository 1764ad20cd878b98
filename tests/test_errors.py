from __future__ import annotations

import builtins
import inspect
import pickle
import re

import pytest

import distrain
import distrain.links as L
from distrain import errors
from distrain.errors import DistrainError, InvalidType, MismatchError

LINE = re.compile(r"^    (?P<indent>[│ ]*)[├└]── (?P<name>\w+)\s+(?:\((?P<builtin>\w+)\))?", re.MULTILINE)


def drawn() -> dict[str, tuple[str, str | None]]:
    """Parent and built-in of every class, as the docstring draws them."""
    tree: dict[str, tuple[str, str | None]] = {}
    above = ["DistrainError"]
    for match in LINE.finditer(errors.__doc__ or ""):
        depth = len(match["indent"]) // 4
        tree[match["name"]] = above[depth], match["builtin"]
        above[depth + 1 :] = [match["name"]]
    return tree


def defined() -> dict[str, type]:
    return {name: x for name, x in vars(errors).items() if inspect.isclass(x) and issubclass(x, DistrainError)}


def test_the_drawn_tree_is_the_tree() -> None:
    tree = drawn()
    assert {"DistrainError", *tree} == set(defined())
    for name, (parent, builtin) in tree.items():
        bases = [base.__name__ for base in defined()[name].__bases__]
        assert bases == [parent, *([builtin] if builtin else [])], name


@pytest.mark.parametrize("name", drawn())
def test_each_is_the_built_in_that_a_caller_expects(name: str) -> None:
    tree, ancestor = drawn(), name
    while ancestor != "DistrainError":
        ancestor, builtin = tree[ancestor]
        if builtin:
            with pytest.raises(getattr(builtins, builtin), match="what happened"):
                raise defined()[name]("what happened")


@pytest.mark.parametrize("kind", defined().values(), ids=lambda kind: kind.__name__)
def test_a_message_of_several_lines_stays_readable_and_crosses_processes(kind: type[DistrainError]) -> None:
    error = kind("what happened\nwhat to do")
    assert str(error) == "what happened\nwhat to do"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)


def test_an_empty_mismatch_can_be_printed() -> None:
    assert str(MismatchError()) == ""


def test_invalid_type_names_the_place_in_the_model() -> None:
    error = InvalidType("does not fit")
    assert str(error) == "does not fit"
    error.link_path = "/predictor/l1"
    assert str(error) == "does not fit\nIn link: /predictor/l1"


def test_the_path_is_that_of_the_link_that_failed() -> None:
    inner = L.Sequential(L.Linear(3, 4), L.Linear(5, 2))
    model = L.Classifier(inner)
    with pytest.raises(InvalidType, match=r"\nIn link: /predictor/1$") as caught:
        model(distrain.config.dtype(0).repeat(6).reshape(2, 3), [0, 1])
    assert caught.value.message in str(caught.value)
