from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw


@pytest.mark.parametrize("shape", [(3, 4), (5,), (), (2, 3, 2)])
def test_values_and_derivatives(shape):
    check_function(F.mean_squared_error, draw(shape, shape), lambda a, b: np.mean((a - b) ** 2))


def test_an_empty_batch_has_loss_zero():
    check_empty(F.mean_squared_error, (0, 3), (0, 3))
    assert F.mean_squared_error(np.zeros((0, 3)), np.zeros((0, 3))).array == 0


def test_wrong_arguments_are_refused():
    x = np.ones((2, 3))
    with pytest.raises(InvalidType, match=r"(?s)mean_squared_error .*Argument: x1.*\(2, 3\)\nActual: shape \(3,\)"):
        F.mean_squared_error(x, np.ones(3))
    with pytest.raises(InvalidType, match=r"(?s)mean_squared_error .*Argument: x1.*float64\nActual: .*float32"):
        F.mean_squared_error(x, x.astype(np.float32))
    with pytest.raises(InvalidType, match=r"(?s)mean_squared_error .*Argument: x0.*floating.*int64"):
        F.mean_squared_error(x.astype(int), x)
