from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw

CONDITION = np.array([[True, False, True], [False, False, True]])


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((3,), (2, 1)), ((), (2, 3)), ((4, 2, 3), ())])
def test_values_and_derivatives(shapes):
    check_function(
        lambda x, y: F.where(CONDITION, x, y), draw(*shapes), lambda x, y: np.where(CONDITION, x, y), tolerance=2e-2
    )


def test_empty():
    check_empty(lambda x, y: F.where(np.zeros((0, 3), bool), x, y), (0, 3), (0, 3))


def test_wrong_arguments_are_refused():
    x = np.ones((2, 3))
    with pytest.raises(InvalidType, match=r"(?s)where .*condition\nExpect: dtype bool\nActual: shape \(2, 3\), int64"):
        F.where(CONDITION.astype(np.int64), x, x)
    with pytest.raises(InvalidType, match=r"(?s)where .*dtype of x, float64\nActual: shape \(2, 3\), float32"):
        F.where(CONDITION, x, x.astype(np.float32))
    with pytest.raises(InvalidType, match=r"(?s)where .*broadcast"):
        F.where(CONDITION, x, np.ones(4))
