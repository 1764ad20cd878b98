"""Layers one after the other."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain.errors import ArgumentError, InvalidType
from distrain.gradient_check import check_backward
from distrain.serializers import load_npz, save_npz

random = np.random.RandomState(0)
X = random.randn(4, 3)


def mlp(n_in=3):
    return distrain.Sequential(L.Linear(n_in, 5), F.tanh, L.Linear(None if n_in is None else 5, 2))


def paths(model):
    return [path for path, _ in model.namedparams()]


@pytest.mark.parametrize("n_in", [3, None])
def test_values_and_gradients(n_in):
    with distrain.using_config("dtype", np.float64):
        model = mlp(n_in)
        y = model(X)
        expected = np.tanh(X @ model[0].W.array.T) @ model[2].W.array.T
        np.testing.assert_allclose(y.array, expected, rtol=1e-10)
        check_backward(model, X, random.randn(4, 2), params=list(model.params()))


def test_lists_layers_but_walks_links():
    model = mlp()
    layers = list(model)
    assert len(model) == len(layers) == 3
    assert layers[1] is F.tanh
    assert model[-1] is layers[2]
    assert list(model.children()) == [layers[0], layers[2]]
    assert [(name, link.name) for name, link in model.named_children()] == [("0", "0"), ("1", "1")]
    assert paths(model) == ["/0/W", "/0/b", "/1/W", "/1/b"]
    assert model.count_params() == 3 * 5 + 5 + 5 * 2 + 2
    with pytest.raises(IndexError):
        model[3]


def test_tuples_become_arguments():
    def split(x):
        return x, x * 2, 10

    def total(x, y, z):
        return x + y + z

    x = X.astype("f")
    model = distrain.Sequential(split, total)
    np.testing.assert_allclose(model(x), 3 * x + 10, rtol=1e-6)
    assert distrain.Sequential(split)(1) == (1, 2, 10)
    assert distrain.Sequential(total)(1, 2, 3) == 6
    assert distrain.Sequential(lambda x: [x, x], len)(1) == 2  # a list stays one argument


def test_a_link_with_several_outputs_feeds_the_next():
    with distrain.using_config("dtype", np.float64):
        model = distrain.Sequential(L.StatelessLSTM(3, 2), lambda c, h: c * h, L.Linear(2, 1))
        c, h = random.randn(2, 4, 2)
        check_backward(model, (c, h, X), random.randn(4, 1), params=list(model.params()))


def test_append_insert_extend():
    first, middle, last = L.Linear(3, 3), L.Linear(3, 3), L.Linear(3, 3)
    model = distrain.Sequential()
    assert len(model) == 0
    model.append(last)
    model.insert(0, first)
    model.insert(1, F.relu)
    model.insert(2, middle)
    model.extend([F.tanh, abs])
    assert list(model) == [first, F.relu, middle, last, F.tanh, abs]
    assert list(model.children()) == [first, middle, last]
    assert [first.name, middle.name, last.name] == ["0", "1", "2"]
    model.add_link(L.Linear(3, 3))
    assert len(model) == 7
    assert len(paths(model)) == 8


def test_other_layers_are_refused():
    with pytest.raises(ArgumentError, match="int"):
        distrain.Sequential(L.Linear(3, 2), 5)
    model = mlp()
    with pytest.raises(ArgumentError, match="NoneType"):
        model.insert(1, None)
    with pytest.raises(ArgumentError, match="layer 4 must be a link or a function, not str"):
        model.extend([F.relu, "relu"])
    assert list(model)[3:] == [F.relu]


def test_slices():
    model = mlp()
    part = model[1:]
    assert isinstance(part, distrain.Sequential)
    assert list(part) == [F.tanh, model[2]]
    assert paths(part) == ["/0/W", "/0/b"]
    h = random.randn(4, 5).astype("f")
    np.testing.assert_allclose(part(h).array, np.tanh(h) @ model[2].W.array.T, rtol=1e-5, atol=1e-6)
    assert list(model[::-1]) == list(model)[::-1]
    assert len(model[3:]) == 0


def test_a_slice_leaves_the_names_in_the_model():
    model = distrain.Chain(net=mlp())
    model.net[2].W.array = np.zeros((2, 7), "f")
    assert len(model.net[1:]) == 2
    with pytest.raises(InvalidType, match="In link: /net/1$"):
        model.net(X.astype("f"))


def test_flatten():
    a, b, c = L.Linear(3, 3), L.Linear(3, 3), L.Linear(3, 3)
    nested = distrain.Sequential(a, distrain.Sequential(F.relu, distrain.Sequential(b), F.tanh), c)
    x = X.astype("f")
    expected = nested(x).array
    assert paths(nested) == ["/0/W", "/0/b", "/1/0/0/W", "/1/0/0/b", "/2/W", "/2/b"]
    flat = nested.flatten()
    assert list(flat) == [a, F.relu, b, F.tanh, c]
    assert paths(flat) == ["/0/W", "/0/b", "/1/W", "/1/b", "/2/W", "/2/b"]
    np.testing.assert_array_equal(flat(x).array, expected)
    assert len(nested) == 3


@pytest.mark.parametrize("mode", ["share", "copy", "init"])
def test_copy(mode):
    model = distrain.Sequential(L.Linear(3, 5), F.tanh, distrain.Sequential(L.Linear(5, 2)))
    other = model.copy(mode)
    assert isinstance(other, distrain.Sequential)
    assert other[1] is F.tanh
    assert paths(other) == paths(model)
    other.append(F.relu)
    assert (len(other), len(model)) == (4, 3)
    mine, theirs = list(model.params()), list(other.params())
    assert all((a is b) == (mode == "share") for a, b in zip(mine, theirs, strict=True))
    if mode == "copy":
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a.array, b.array)
    before = other[0].W.array.copy()
    model[0].W.array[...] += 1
    assert np.array_equal(other[0].W.array, before) == (mode != "share")


def test_repeat():
    model = distrain.Sequential(L.Linear(3, 3), F.relu).repeat(3)
    assert isinstance(model, distrain.Sequential)
    assert len(model) == 3
    assert paths(model) == [f"/{i}/0/{name}" for i in range(3) for name in "Wb"]
    weights = [layer[0].W.array for layer in model]
    assert not np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[1], weights[2])
    assert model(X.astype("f")).shape == (4, 3)


def test_errors_name_the_link():
    model = L.Classifier(distrain.Sequential(L.Linear(3, 5), F.tanh, L.Linear(4, 2)))
    with pytest.raises(InvalidType, match="In link: /predictor/1$"):
        model(X.astype("f"), np.zeros(4, "i"))


@pytest.mark.parametrize("n_in", [3, None])
def test_round_trip(n_in, tmp_path):
    model = mlp()
    save_npz(tmp_path / "m", model)
    with np.load(tmp_path / "m") as file:
        assert sorted(file.files) == ["0/W", "0/b", "1/W", "1/b"]
    other = mlp(n_in)
    load_npz(tmp_path / "m", other)
    x = X.astype("f")
    np.testing.assert_array_equal(other(x).array, model(x).array)
