import numpy as np
import pytest

import distrain.functions as F
from distrain import errors
from tests.functions.cases import check_empty, check_function, draw


@pytest.mark.parametrize("shape", [(4, 3), (2, 7)])
def test_table(shape):
    def direct(x, gamma, beta):
        return np.stack([gamma * (row - row.mean()) / np.sqrt(row.var() + 1e-5) + beta for row in x])

    check_function(F.layer_normalization, draw(shape, shape[1:], shape[1:]), direct, tolerance=0.03)


def test_no_samples():
    check_empty(F.layer_normalization, (0, 3), (3,), (3,))


def test_half_precision_does_not_overflow():
    x = np.linspace(-6e4, 6e4, 8, dtype=np.float16).reshape(1, 8)
    y = F.layer_normalization(x, np.ones(8, np.float16), np.zeros(8, np.float16))
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.array.astype(np.float32).std(), 1, rtol=1e-2)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (((4, 3), (2,), (3,)), r"gamma.*Expect: shape \(3,\).*Actual: shape \(2,\)"),
        (((4, 3), (3,), (2,)), r"beta.*Expect: shape \(3,\)"),
        (((4, 3, 2), (3,), (3,)), "x.*2 axes.*3 axes"),
    ],
)
def test_refuses(shapes, text):
    with pytest.raises(errors.InvalidType, match="(?s)in: layer_normalization.*Argument: " + text):
        F.layer_normalization(*[np.zeros(shape) for shape in shapes])
