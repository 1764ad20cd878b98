"""Batch normalization and its running statistics."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.links as L
from distrain.errors import InvalidType
from distrain.gradient_check import check_backward
from distrain.serializers import load_npz, save_npz

random = np.random.RandomState(0)
BATCHES = [random.randn(5, 3, 2, 2) * 3 + random.randn(3, 1, 1) for _ in range(3)]
EPS = 2e-5


def per_channel(v):
    return np.asarray(v)[:, None, None]


def normalized(x, mean, var):
    return (x - per_channel(mean)) / np.sqrt(per_channel(var) + EPS)


def statistics(x):
    """Mean, biased and unbiased variance of each channel."""
    channels = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    return channels.mean(axis=1), channels.var(axis=1), channels.var(axis=1, ddof=1)


@pytest.mark.parametrize("size", [3, None])
def test_running_statistics(size):
    with distrain.using_config("dtype", np.float64):
        link = L.BatchNormalization(size, decay=0.8)
        mean, var = np.zeros(3), np.ones(3)
        for x in BATCHES:
            with distrain.using_config("train", True):
                y = link(x)
            batch_mean, biased, unbiased = statistics(x)
            np.testing.assert_allclose(y.array, normalized(x, batch_mean, biased), rtol=1e-9, atol=1e-9)
            mean, var = 0.8 * mean + 0.2 * batch_mean, 0.8 * var + 0.2 * unbiased
            np.testing.assert_allclose(link.avg_mean, mean, rtol=1e-9)
            np.testing.assert_allclose(link.avg_var, var, rtol=1e-9)
        with distrain.using_config("train", False):
            y = link(BATCHES[0])
        np.testing.assert_allclose(y.array, normalized(BATCHES[0], mean, var), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(link.avg_mean, mean, rtol=1e-9)  # evaluation leaves them alone
        np.testing.assert_allclose(link.avg_var, var, rtol=1e-9)
        assert link.N == 0


def test_finetune():
    with distrain.using_config("dtype", np.float64):
        link = L.BatchNormalization(3)
        link(BATCHES[2])
        for _ in range(2):  # the second time as if there had been no first
            link.start_finetuning()
            for n, x in enumerate(BATCHES, 1):
                link(x, finetune=True)
                assert link.N == n
            means, _, variances = zip(*map(statistics, BATCHES), strict=True)
            np.testing.assert_allclose(link.avg_mean, np.mean(means, axis=0), rtol=1e-9)
            np.testing.assert_allclose(link.avg_var, np.mean(variances, axis=0), rtol=1e-9)


def test_gamma_and_beta():
    with distrain.using_config("dtype", np.float64):
        gamma, beta = random.randn(3), random.randn(3)
        link = L.BatchNormalization(3, initial_gamma=gamma, initial_beta=beta)
        mean, var, _ = statistics(BATCHES[0])
        expected = normalized(BATCHES[0], mean, var) * per_channel(gamma) + per_channel(beta)
        np.testing.assert_allclose(link(BATCHES[0]).array, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("use_beta", [True, False])
@pytest.mark.parametrize("use_gamma", [True, False])
@pytest.mark.parametrize("size", [3, None])
def test_gradients(size, use_gamma, use_beta, train):
    with distrain.using_config("dtype", np.float64):
        normal = distrain.initializers.Normal()
        link = L.BatchNormalization(
            size, use_gamma=use_gamma, use_beta=use_beta, initial_gamma=normal, initial_beta=normal
        )
        link(BATCHES[0])
        assert [path for path, _ in link.namedparams()] == ["/gamma"] * use_gamma + ["/beta"] * use_beta
        assert all(param.shape == (3,) and param.dtype == np.float64 for param in link.params())
        with distrain.using_config("train", train):
            check_backward(link, BATCHES[1], random.randn(5, 3, 2, 2), params=list(link.params()))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("axis", "size"), [((0, 1), 4), (0, (3, 4)), ((0, 3), (3, 2))])
def test_axes(axis, size, lazy):
    x = random.randn(5, 3, 4) if axis != (0, 3) else random.randn(5, 3, 2, 4)
    axes = axis if isinstance(axis, tuple) else (axis,)
    with distrain.using_config("dtype", np.float64):
        link = L.BatchNormalization(None if lazy else size, axis=axis)
        y = link(x)
        assert link.gamma.shape == link.avg_mean.shape == ((size,) if isinstance(size, int) else size)
        centered = x - x.mean(axis=axes, keepdims=True)
        expected = centered / np.sqrt(x.var(axis=axes, keepdims=True) + EPS)
        np.testing.assert_allclose(y.array, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(link.avg_mean, 0.1 * x.mean(axis=axes), rtol=1e-9)
        check_backward(link, x, random.randn(*x.shape), params=list(link.params()))


def test_flat_batches():
    x = random.randn(6, 3).astype("f")
    y = L.BatchNormalization(3)(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.array, (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + EPS), rtol=1e-4, atol=1e-5)


def test_statistics_of_float16_are_float32():
    with distrain.using_config("dtype", np.float16):
        link = L.BatchNormalization(3)
    x = BATCHES[0].astype(np.float16)
    assert link(x).dtype == np.float16
    assert link.avg_mean.dtype == link.avg_var.dtype == np.float32
    np.testing.assert_allclose(link.avg_mean, 0.1 * statistics(x.astype(np.float64))[0], rtol=1e-5, atol=1e-7)


def test_one_number_per_channel_keeps_the_variance_finite():
    link = L.BatchNormalization(3)
    link(np.ones((1, 3), "f"))
    np.testing.assert_allclose(link.avg_var, 0.9, rtol=1e-6)


def test_another_number_of_channels():
    link = L.BatchNormalization(3)
    with pytest.raises(InvalidType):
        link(np.zeros((2, 4, 2, 2), "f"))


@pytest.mark.parametrize("size", [3, None])
def test_round_trip(size, tmp_path):
    link = L.BatchNormalization(3, initial_gamma=2.0)
    for x in BATCHES:
        link(x.astype("f"), finetune=True)
    save_npz(tmp_path / "m", link)
    with np.load(tmp_path / "m") as file:
        assert sorted(file.files) == ["N", "avg_mean", "avg_var", "beta", "gamma"]
    other = L.BatchNormalization(size)
    load_npz(tmp_path / "m", other)
    for name in ("avg_mean", "avg_var"):
        assert getattr(other, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(other, name), getattr(link, name))
    np.testing.assert_array_equal(other.gamma.array, [2, 2, 2])
    np.testing.assert_array_equal(other.beta.array, [0, 0, 0])
    assert other.N == 3
    x = BATCHES[0].astype("f")
    for model in (link, other):  # the next steps must be the same too
        model(x, finetune=True)
        model(x)
    np.testing.assert_array_equal(other.avg_mean, link.avg_mean)
    np.testing.assert_array_equal(other.avg_var, link.avg_var)
    with distrain.using_config("train", False):
        np.testing.assert_array_equal(other(x).array, link(x).array)


def test_a_model_without_sizes_round_trips(tmp_path):
    save_npz(tmp_path / "m", L.BatchNormalization())
    other = L.BatchNormalization()
    load_npz(tmp_path / "m", other)
    assert other.avg_mean is None
    assert not other.gamma.is_initialized
    other(BATCHES[0].astype("f"))
    assert other.avg_mean.shape == (3,)


def test_copies_have_statistics_of_their_own():
    link = L.BatchNormalization(3)
    other = link.copy("copy")
    link(BATCHES[0].astype("f"))
    assert link.avg_mean.any()
    assert not other.avg_mean.any()
