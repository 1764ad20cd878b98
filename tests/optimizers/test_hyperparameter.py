from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import distrain.functions as F
import distrain.links as L
from distrain import optimizers
from distrain.optimizers import Hyperparameter, HyperparameterProxy


def family() -> tuple[Any, Any]:
    parent: Any = Hyperparameter()
    parent.lr, parent.momentum = 0.1, 0.9
    return parent, Hyperparameter(parent)


def test_a_child_follows_its_parent_until_it_has_its_own() -> None:
    parent, child = family()
    assert child.lr == 0.1
    parent.lr = 0.2
    assert child.lr == 0.2
    assert not child.has_own
    child.lr = 0.5
    parent.lr = 0.3
    assert (child.lr, parent.lr, child.momentum) == (0.5, 0.3, 0.9)
    assert child.has_own
    assert child.parent is parent
    assert parent.parent is None


def test_all_values_in_one_dict() -> None:
    parent, child = family()
    child.lr = 0.5
    assert child.get_dict() == {"lr": 0.5, "momentum": 0.9}
    assert parent.get_dict() == {"lr": 0.1, "momentum": 0.9}
    assert repr(child) == "Hyperparameter(lr=0.5, momentum=0.9)"


def test_a_misspelt_name_is_refused_and_the_right_ones_are_named() -> None:
    parent, child = family()
    for wrong in (lambda: child.learning_rate, lambda: setattr(child, "learning_rate", 1)):
        with pytest.raises(AttributeError, match="no hyperparameter 'learning_rate'; there are lr, momentum"):
            wrong()
    assert "learning_rate" not in parent.get_dict()


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_keep_their_values(clone: Any) -> None:
    _, child = family()
    child.lr = 0.5
    assert clone(child).get_dict() == {"lr": 0.5, "momentum": 0.9}


class Decaying(optimizers.SGD):
    decay = HyperparameterProxy("decay")


def test_an_attribute_of_the_optimizer_is_its_hyperparameter() -> None:
    optimizer = Decaying(lr=0.1)
    optimizer.decay = 0.5
    assert optimizer.hyperparam.get_dict() == {"lr": 0.1, "decay": 0.5}
    optimizer.hyperparam.lr = 0.2
    assert optimizer.lr == 0.2
    assert isinstance(Decaying.decay, HyperparameterProxy)
    assert Decaying.decay.__doc__ == "The hyperparameter decay."
    assert Decaying(lr=3).lr == 3  # one optimizer's value is not another's
    assert optimizer.lr == 0.2


def test_a_parameter_with_a_rate_of_its_own() -> None:
    model = L.Linear(2, 2, initialW=1)
    optimizer = optimizers.SGD(lr=0.1).setup(model)
    model.b.update_rule.hyperparam.lr = 0.5
    for lr, w in ((0.1, 1 - 0.1), (0.2, 1 - 0.1 - 0.2)):  # the others follow a schedule, before and after flattening
        optimizer.lr = lr
        optimizer.update(lambda: F.sum(model(np.ones((1, 2), np.float32))))
        np.testing.assert_allclose(model.W.array, w, rtol=1e-6)
    np.testing.assert_allclose(model.b.array, -1, rtol=1e-6)


def test_source_is_where_all_values_can_be_read():
    parent = Hyperparameter()
    parent.lr = 0.1
    child = Hyperparameter(parent)
    assert parent.source is parent
    assert child.source is parent
    child.lr = 0.2
    assert child.source is child
    assert child.source.lr == 0.2
    del child.lr
    assert child.source.lr == 0.1
