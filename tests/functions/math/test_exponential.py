from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw

CASES = [
    (F.exp, np.exp),
    (F.expm1, np.expm1),
    (F.log, np.log),
    (F.log1p, np.log1p),
    (F.sqrt, np.sqrt),
    (F.rsqrt, lambda x: 1 / np.sqrt(x)),
    (F.square, np.square),
]


@pytest.mark.parametrize("shape", [(3, 4), (), (2, 1, 3)])
@pytest.mark.parametrize(("func", "expected"), CASES)
def test_values_and_derivatives(func, expected, shape):
    check_function(func, draw(shape, low=0.5), expected)


@pytest.mark.parametrize(("func", "_"), CASES)
def test_empty(func, _):
    check_empty(func, (0, 3))


@pytest.mark.parametrize(("func", "expected"), CASES)
def test_integers_are_refused(func, expected):
    if func is F.rsqrt:
        func = F.sqrt
    with pytest.raises(
        InvalidType, match=rf"(?s)in: {func.__name__} .*Argument: x.*floating.*Actual: shape \(3,\), int"
    ):
        func(np.arange(3))
