from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw


def flipped(x, flip):
    return x.swapaxes(-1, -2) if flip and x.ndim > 1 else x


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 2), (2, 4)),
        ((2,), (2,)),
        ((2,), (2, 4)),
        ((3, 2), (2,)),
        ((5, 3, 2), (5, 2, 4)),
        ((3, 2), (5, 2, 4)),
        ((5, 1, 3, 2), (4, 2, 3)),
        ((5, 3, 2), (2,)),
        ((2,), (5, 2, 3)),
    ],
)
@pytest.mark.parametrize(("transa", "transb"), [(False, False), (True, False), (False, True), (True, True)])
def test_values_and_derivatives(a, b, transa, transb):
    xs = draw(a, b)
    xs = [np.ascontiguousarray(flipped(xs[0], transa)), np.ascontiguousarray(flipped(xs[1], transb))]
    check_function(
        lambda a, b: F.matmul(a, b, transa, transb),
        xs,
        lambda a, b: flipped(a, transa) @ flipped(b, transb),
        tolerance=2e-2,
    )


def test_empty():
    check_empty(F.matmul, (0, 3), (3, 2))
    check_empty(F.matmul, (2, 0), (0, 3))
    check_empty(F.matmul, (0,), (0,))


def test_operator_on_both_sides():
    a, b = draw((2, 3), (3, 2))
    x = Variable(a.astype(np.float32))
    for y in (x @ b, a @ Variable(b.astype(np.float32))):
        assert isinstance(y, Variable)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.array, a @ b, rtol=1e-5)


def test_wrong_shapes_are_refused():
    with pytest.raises(InvalidType, match=r"(?s)matmul .*a: shape \(2, 3\), float64; b: shape \(2, 3\), float64"):
        F.matmul(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(InvalidType, match=r"(?s)matmul .*broadcast.*\(2,\) and \(3,\)"):
        F.matmul(np.ones((2, 2, 3)), np.ones((3, 3, 2)))
    with pytest.raises(InvalidType, match=r"(?s)matmul .*Argument: b"):
        F.matmul(np.ones((2, 2)), np.ones(()))
    with pytest.raises(InvalidType, match=r"(?s)matmul .*Argument: b.*Actual: int"):
        Variable(np.ones((2, 2))) @ 3
