"""Both LSTM layers against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain.errors import DistrainError
from distrain.gradient_check import check_backward
from distrain.initializers import Normal
from distrain.serializers import load_npz, save_npz

random = np.random.RandomState(0)
N, IN, UNITS = 3, 4, 2
STEPS = random.randn(4, N, IN)
INITIALIZERS = {"lateral_init": Normal(0.5), "upward_init": Normal(0.5), "bias_init": Normal(0.5)}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(link, c, h, x):
    """One unit at a time; its rows of the weights are 4 j + 0, 1, 2, 3 for a, i, f, o."""
    upward, bias, lateral = link.upward.W.array, link.upward.b.array, link.lateral.W.array
    new_c, new_h = np.empty_like(c), np.empty_like(h)
    for j in range(c.shape[1]):
        a, i, f, o = (x @ upward[r] + bias[r] + h @ lateral[r] for r in range(4 * j, 4 * j + 4))
        new_c[:, j] = sigmoid(f) * c[:, j] + sigmoid(i) * np.tanh(a)
        new_h[:, j] = sigmoid(o) * np.tanh(new_c[:, j])
    return new_c, new_h


def zeros():
    return np.zeros((N, UNITS)), np.zeros((N, UNITS))


@pytest.mark.parametrize("n_in", [IN, None])
def test_stateless_against_the_loop(n_in):
    with distrain.using_config("dtype", np.float64):
        link = L.StatelessLSTM(n_in, UNITS, **INITIALIZERS)
        c = h = None
        expected_c, expected_h = zeros()
        for x in STEPS:
            c, h = link(c, h, x)
            assert c.dtype == h.dtype == np.float64
            expected_c, expected_h = step(link, expected_c, expected_h, x)
            np.testing.assert_allclose(c.array, expected_c, rtol=1e-10)
            np.testing.assert_allclose(h.array, expected_h, rtol=1e-10)


@pytest.mark.parametrize("n_in", [IN, None])
def test_lstm_against_the_loop(n_in):
    with distrain.using_config("dtype", np.float64):
        link = L.LSTM(n_in, UNITS, **INITIALIZERS)
        c, h = zeros()
        for x in STEPS:
            y = link(x)
            c, h = step(link, c, h, x)
            np.testing.assert_allclose(y.array, h, rtol=1e-10)
            np.testing.assert_allclose(link.c.array, c, rtol=1e-10)
            assert link.h is y


@pytest.mark.parametrize("n_in", [IN, None])
def test_gradients_of_one_step(n_in):
    with distrain.using_config("dtype", np.float64):
        link = L.StatelessLSTM(n_in, UNITS, **INITIALIZERS)
        c, h, gc, gh = random.randn(4, N, UNITS)
        link(c, h, STEPS[0])
        check_backward(link, (c, h, STEPS[0]), (gc, gh), params=list(link.params()))
        check_backward(lambda x: link(None, None, x), STEPS[0], (gc, gh), params=list(link.upward.params()))


@pytest.mark.parametrize("n_in", [IN, None])
def test_gradients_through_time(n_in):
    with distrain.using_config("dtype", np.float64):
        link = L.LSTM(n_in, UNITS, **INITIALIZERS)
        link(STEPS[0])

        def unrolled(*xs):
            link.reset_state()
            return [link(x) for x in xs]

        gys = list(random.randn(4, N, UNITS))
        check_backward(unrolled, list(STEPS), gys, params=list(link.params()))
        check_backward(unrolled, list(STEPS), [None, None, None, gys[0]], params=list(link.params()))


def test_gradients_of_a_shrinking_batch():
    with distrain.using_config("dtype", np.float64):
        link = L.LSTM(IN, UNITS, **INITIALIZERS)

        def unrolled(*xs):
            link.reset_state()
            for x in xs:
                link(x)
            return link.c, link.h

        xs = [STEPS[0], STEPS[1, :2], STEPS[2, :2], STEPS[3, :1]]
        check_backward(unrolled, xs, list(random.randn(2, N, UNITS)), params=list(link.params()))


def test_shrinking_batch():
    with distrain.using_config("dtype", np.float64):
        link = L.LSTM(IN, UNITS, **INITIALIZERS)
        c, h = zeros()
        for x, n in zip(STEPS, (3, 2, 2, 1), strict=True):
            y = link(x[:n])
            c[:n], h[:n] = step(link, c[:n], h[:n], x[:n])
            np.testing.assert_allclose(y.array, h[:n], rtol=1e-10)
            np.testing.assert_allclose(link.c.array, c, rtol=1e-10)
            np.testing.assert_allclose(link.h.array, h, rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_a_growing_batch_is_refused(n):
    link = L.LSTM(IN, UNITS)
    xs = STEPS.astype("f")
    link(xs[0, :n])
    with pytest.raises(DistrainError):
        link(xs[1])


def test_reset_state():
    link = L.LSTM(IN, UNITS)
    assert link.c is None
    assert link.h is None
    x = STEPS[0].astype("f")
    first, second = link(x), link(x)
    assert not np.allclose(first.array, second.array)
    link.reset_state()
    assert link.c is None
    assert link.h is None
    np.testing.assert_array_equal(link(x).array, first.array)


@pytest.mark.parametrize("wrap", [lambda v: v, distrain.Variable])
def test_set_state(wrap):
    with distrain.using_config("dtype", np.float64):
        link = L.LSTM(IN, UNITS, **INITIALIZERS)
        c, h = random.randn(2, N, UNITS)
        link.set_state(wrap(c), wrap(h))
        y = link(STEPS[0])
        expected_c, expected_h = step(link, c, h, STEPS[0])
        np.testing.assert_allclose(y.array, expected_h, rtol=1e-10)
        np.testing.assert_allclose(link.c.array, expected_c, rtol=1e-10)


def test_the_forget_gate_starts_open():
    for link in (L.LSTM(IN, UNITS), L.StatelessLSTM(IN, UNITS), L.LSTM(UNITS)):
        np.testing.assert_array_equal(link.upward.b.array.reshape(UNITS, 4), [[0, 0, 1, 0]] * UNITS)
        assert link.lateral.b is None
    other = L.LSTM(IN, UNITS, bias_init=0.5, forget_bias_init=-2)
    np.testing.assert_array_equal(other.upward.b.array.reshape(UNITS, 4), [[0.5, 0.5, -2, 0.5]] * UNITS)


def test_each_gate_is_drawn_like_a_matrix_of_its_own():
    link = L.LSTM(100, 50)  # LeCun: 1 / sqrt(in_size)
    for W, std in ((link.upward.W, 0.1), (link.lateral.W, 1 / np.sqrt(50))):
        gates = W.array.reshape(50, 4, -1)
        for gate in range(4):
            assert abs(gates[:, gate].std() / std - 1) < 0.1
        assert not np.array_equal(gates[:, 0], gates[:, 1])


def test_orthogonal_gates():
    def identity(array):
        array[...] = np.eye(len(array))

    gates = L.LSTM(3, 3, lateral_init=identity).lateral.W.array.reshape(3, 4, 3)
    for gate in range(4):
        np.testing.assert_array_equal(gates[:, gate], np.eye(3))


def test_one_size_is_the_output():
    link = L.LSTM(UNITS)
    assert link(STEPS[0].astype("f")).shape == (N, UNITS)
    assert link.upward.W.shape == (4 * UNITS, IN)
    assert link.lateral.W.shape == (4 * UNITS, UNITS)


@pytest.mark.parametrize("n_in", [IN, None])
def test_round_trip(n_in, tmp_path):
    link = L.LSTM(IN, UNITS)
    x = STEPS[0].astype("f")
    y = link(x)
    save_npz(tmp_path / "m", link)
    with np.load(tmp_path / "m") as file:
        assert sorted(file.files) == ["lateral/W", "upward/W", "upward/b"]
    other = L.LSTM(n_in, UNITS)
    load_npz(tmp_path / "m", other)
    np.testing.assert_array_equal(other(x).array, y.array)


def test_initializers_by_position():
    link = L.LSTM(IN, UNITS, 1.0, 2.0, 3.0, 4.0)  # as in StatelessLSTM
    assert (link.lateral.W.array == 1).all()
    assert (link.upward.W.array == 2).all()
    np.testing.assert_array_equal(link.upward.b.array.reshape(UNITS, 4), [[3, 3, 4, 3]] * UNITS)


def test_truncated_backpropagation():
    link = L.LSTM(IN, UNITS)
    xs = [distrain.Variable(x) for x in STEPS.astype("f")]
    link(xs[0])
    link(xs[1])
    link.h.unchain_backward()
    link.c.unchain_backward()
    F.sum(link(xs[2]) + link(xs[3])).backward()
    assert xs[0].grad is None
    assert xs[1].grad is None
    assert xs[2].grad is not None
    assert xs[3].grad is not None
