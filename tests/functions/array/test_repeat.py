from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_repeat(repeats, axis):
    check_function(
        lambda x: F.repeat(x, repeats, axis), draw((2, 3)), lambda x: np.repeat(x, repeats, axis), tolerance=2e-2
    )


@pytest.mark.parametrize("reps", [2, (2, 3), (2, 1, 3), (0, 1), ()])
def test_tile(reps):
    check_function(lambda x: F.tile(x, reps), draw((2, 3)), lambda x: np.tile(x, reps), tolerance=3e-2)


def test_empty():
    check_empty(lambda x: F.repeat(x, 2, 1), (0, 3))
    check_empty(lambda x: F.tile(x, 2), (0, 3))


def test_wrong_arguments_are_refused():
    with pytest.raises(InvalidType, match=r"(?s)repeat .*repeats\nExpect: 0 or more\nActual: -1"):
        F.repeat(np.ones(2), -1)
    with pytest.raises(InvalidType, match=r"(?s)repeat .*-1 … 0 for 1 axes\nActual: 1"):
        F.repeat(np.ones(2), 2, 1)
    with pytest.raises(InvalidType, match=r"(?s)tile .*Actual: \(-1,\)"):
        F.tile(np.ones(2), -1)
