import numpy as np
import pytest

import distrain.functions as F
from distrain import errors
from tests.functions.cases import check_empty, check_function, draw

# shape of x, axis, axes of the statistics
CASES = [
    ((6, 3), None, (0,)),
    ((4, 3, 2, 2), None, (0, 2, 3)),
    ((4, 3, 2), (0,), (0,)),
    ((2, 3, 4), (0, 1), (0, 1)),
    ((3, 5), 1, (1,)),
]


def normalized(x, gamma, beta, mean, var, axes, eps=2e-5):
    gamma, beta, mean, var = [np.expand_dims(v, axes) for v in (gamma, beta, mean, var)]
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


@pytest.mark.parametrize(("shape", "axis", "axes"), CASES)
def test_training(shape, axis, axes):
    channels = tuple(n for i, n in enumerate(shape) if i not in axes)
    check_function(
        lambda x, gamma, beta: F.batch_normalization(x, gamma, beta, axis=axis),
        draw(shape, channels, channels),
        lambda x, gamma, beta: normalized(x, gamma, beta, x.mean(axes), x.var(axes), axes),
        tolerance=0.03,
    )


@pytest.mark.parametrize(("shape", "axis", "axes"), CASES)
def test_fixed(shape, axis, axes):
    channels = tuple(n for i, n in enumerate(shape) if i not in axes)
    xs = draw(shape, channels, channels, channels)
    check_function(
        lambda *xs: F.fixed_batch_normalization(*xs, axis=axis),
        [*xs, np.linspace(0.5, 2, int(np.prod(channels))).reshape(channels)],
        lambda *xs: normalized(*xs, axes),
        tolerance=0.03,
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_running_statistics(dtype):
    x, gamma, beta = [a.astype(dtype) for a in draw((4, 3, 2, 2), (3,), (3,))]
    mean, var = np.full(3, 2, np.float32), np.full(3, 5, np.float32)
    F.batch_normalization(x, gamma, beta, running_mean=mean, running_var=var, decay=0.8)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, 0.8 * 2 + 0.2 * wide.mean((0, 2, 3)), rtol=1e-3)
    np.testing.assert_allclose(var, 0.8 * 5 + 0.2 * wide.var((0, 2, 3), ddof=1), rtol=1e-3)  # unbiased: m / (m - 1)


def test_one_number_a_channel():
    mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    y = F.batch_normalization(np.float32([[3, 4]]), np.ones(2, np.float32), np.float32([5, 6]), 2e-5, mean, var)
    np.testing.assert_array_equal(y.array, [[5, 6]])
    np.testing.assert_allclose(mean, [0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose(var, [0.9, 0.9], rtol=1e-6)


def test_far_from_zero():
    x = (np.random.default_rng(0).normal(size=(1000, 2)) + 1000).astype(np.float32)
    y = F.batch_normalization(x, np.ones(2, np.float32), np.zeros(2, np.float32)).array
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-2)


def test_no_samples():
    check_empty(F.fixed_batch_normalization, (0, 3), (3,), (3,), (3,), (3,))
    with pytest.raises(errors.InvalidType, match=r"(?s)batch_normalization.*Argument: x.*at least one sample"):
        F.batch_normalization(np.zeros((0, 3)), np.zeros(3), np.zeros(3))


@pytest.mark.parametrize(
    ("shapes", "axis", "text"),
    [
        (((4, 3), (2,), (2,)), None, r"gamma.*Expect: shape \(3,\).*Actual: shape \(2,\)"),
        (((4, 3), (3,), (2,)), None, r"beta.*Expect: shape \(3,\).*Actual: shape \(2,\)"),
        (((4, 3), (3,), (3,)), 2, "axis.*0 … 1.*Actual: 2"),
    ],
)
def test_refuses(shapes, axis, text):
    with pytest.raises(errors.InvalidType, match="(?s)in: batch_normalization.*Argument: " + text):
        F.batch_normalization(*[np.zeros(shape) for shape in shapes], axis=axis)
