"""Moments, fans, and what may stand for an initializer."""

from __future__ import annotations

import numpy as np
import pytest

import distrain.initializers as I
import distrain.links as L
from distrain import Parameter, rng
from distrain.errors import ArgumentError

SHAPE = (200, 30, 3, 2)
FAN_IN, FAN_OUT = 180, 1200


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        (I.Normal(0.3), 0.3),
        (I.Uniform(0.3), 0.3 / 3**0.5),
        (I.LeCunNormal(), FAN_IN**-0.5),
        (I.LeCunUniform(), FAN_IN**-0.5),
        (I.GlorotNormal(2), 2 * (2 / (FAN_IN + FAN_OUT)) ** 0.5),
        (I.GlorotUniform(), (2 / (FAN_IN + FAN_OUT)) ** 0.5),
        (I.HeNormal(), (2 / FAN_IN) ** 0.5),
        (I.HeUniform(fan_option="fan_out"), (2 / FAN_OUT) ** 0.5),
    ],
    ids=lambda x: type(x).__name__,
)
def test_moments(initializer, deviation):
    rng.set_seed(0)
    drawn = Parameter(initializer, SHAPE).array
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 4 * deviation / drawn.size**0.5
    assert drawn.std() == pytest.approx(deviation, rel=0.02)


def test_refusals():
    with pytest.raises(ArgumentError, match="at least 2 axes"):
        Parameter(I.LeCunNormal(), (3,))
    with pytest.raises(ArgumentError, match="fan_option"):
        Parameter(I.HeNormal(fan_option="fan"), (3, 2))
    with pytest.raises(ArgumentError, match=r"\(3,\).*\(2, 3\)"):
        L.Linear(3, 2, initialW=np.ones(3))


def test_an_array_is_copied_in_the_dtype_of_the_model():
    given = np.arange(6.0).reshape(2, 3)
    a, b = L.Linear(3, 2, initialW=given), L.Linear(None, 2, initialW=given.astype("f"))
    b(np.ones((1, 3), "f"))
    a.W.array[...] += 1
    assert a.W.dtype == np.float32
    np.testing.assert_array_equal(a.W.array, given + 1)
    np.testing.assert_array_equal(b.W.array, given)
    np.testing.assert_array_equal(given, np.arange(6.0).reshape(2, 3))
    assert L.LayerNormalization(3, initial_gamma=np.ones(3)).gamma.shape == (3,)
    assert Parameter(np.ones(3), 3).shape == (3,)


def test_lazily_or_at_once_the_same():
    def custom(array):
        array[...] = np.random.rand(*array.shape)

    for initializer in (custom, None):
        rng.set_seed(3)
        now = L.Linear(3, 2, initialW=initializer)
        rng.set_seed(3)
        later = L.Linear(None, 2, initialW=initializer)
        np.random.rand(5)
        later(np.ones((1, 3), "f"))
        np.testing.assert_array_equal(now.W.array, later.W.array)
