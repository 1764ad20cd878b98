"""The layer of filters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import distrain
import distrain.links as L
from distrain.errors import ArgumentError, InvalidType
from distrain.gradient_check import check_backward

random = np.random.RandomState(0)
X = random.randn(2, 4, 6, 5)


def correlate(x, W, b, stride=(1, 1), pad=(0, 0), dilate=(1, 1), groups=1):
    """One output number at a time."""
    x = np.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    kh, kw = ((k - 1) * d + 1 for k, d in zip(W.shape[2:], dilate, strict=True))
    height, width = (x.shape[2] - kh) // stride[0] + 1, (x.shape[3] - kw) // stride[1] + 1
    y = np.zeros((len(x), len(W), height, width))
    n_in, n_out = x.shape[1] // groups, len(W) // groups
    for n, o, i, j in itertools.product(*map(range, y.shape)):
        group = o // n_out
        seen = x[n, group * n_in : (group + 1) * n_in, i * stride[0] :, j * stride[1] :]
        y[n, o, i, j] = (seen[:, : kh : dilate[0], : kw : dilate[1]] * W[o]).sum() + (0 if b is None else b[o])
    return y


@pytest.mark.parametrize("n_in", [4, None])
@pytest.mark.parametrize(
    ("ksize", "options"),
    [
        (3, {}),
        ((2, 3), {"stride": (2, 1), "pad": (0, 1)}),
        (2, {"nobias": True, "stride": 2, "pad": 1}),
        (2, {"dilate": 2}),
        (3, {"groups": 2, "pad": 1}),
    ],
)
def test_values_and_gradients(n_in, ksize, options):
    with distrain.using_config("dtype", np.float64):
        link = L.Convolution2D(n_in, 6, ksize, initial_bias=distrain.initializers.Normal(), **options)
        y = link(X)
        assert y.dtype == np.float64
        pairs = {
            key: (options[key],) * 2 if isinstance(options[key], int) else options[key]
            for key in ("stride", "pad", "dilate")
            if key in options
        }
        b = None if "nobias" in options else link.b.array
        expected = correlate(X, link.W.array, b, groups=options.get("groups", 1), **pairs)
        np.testing.assert_allclose(y.array, expected, rtol=1e-10, atol=1e-12)
        check_backward(link, X, random.randn(*y.shape), params=list(link.params()))


def test_the_first_input_gives_the_channels():
    link = L.Convolution2D(None, 3, (2, 1))
    assert not link.W.is_initialized
    assert link.b.shape == (3,)
    assert link(X.astype("f")).shape == (2, 3, 5, 5)
    assert link.W.shape == (3, 4, 2, 1)
    assert link.W.dtype == np.float32
    with pytest.raises(InvalidType):
        link(np.zeros((2, 3, 6, 5), "f"))


@pytest.mark.parametrize(
    "n_in",
    [4, None],
)
def test_too_few_axes(n_in):
    model = distrain.Chain(conv=L.Convolution2D(n_in, 3, 2))
    with pytest.raises(InvalidType, match="In link: /conv$"):
        model.conv(np.ones(3, "f"))


def test_short_form():
    link = L.Convolution2D(3, 2)  # out_channels, ksize
    assert link(X.astype("f")).shape == (2, 3, 5, 4)
    assert link.W.shape == (3, 4, 2, 2)


def test_without_bias():
    link = L.Convolution2D(4, 3, 2, nobias=True)
    assert link.b is None
    assert [path for path, _ in link.namedparams()] == ["/W"]


def test_groups_must_divide_the_channels():
    with pytest.raises(ArgumentError, match="in_channels is 4"):
        L.Convolution2D(4, 6, 3, groups=3)
    with pytest.raises(ArgumentError, match="out_channels is 6"):
        L.Convolution2D(4, 6, 3, groups=4)
    lazy = L.Convolution2D(None, 6, 3, groups=3)
    with pytest.raises(ArgumentError, match="in_channels is 4"):
        lazy(X.astype("f"))


def test_initializers():
    W, b = random.randn(3, 4, 2, 2).astype("f"), random.randn(3).astype("f")
    link = L.Convolution2D(4, 3, 2, initialW=W, initial_bias=b)
    np.testing.assert_array_equal(link.W.array, W)
    np.testing.assert_array_equal(link.b.array, b)
    default = L.Convolution2D(16, 200, 5)
    assert abs(default.W.array.std() - 0.05) < 0.001  # LeCun: 1 / sqrt(16 * 5 * 5)
    assert not default.b.array.any()
