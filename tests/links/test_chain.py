"""Links made of links."""

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


class Net(distrain.Chain):
    """A child, a parameter of its own and a list of children."""

    def __init__(self, n_in=None):
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(n_in, 5)
            self.scale = distrain.Parameter(1.5, (5,))
            self.rest = distrain.ChainList(L.Linear(5, 5), L.Linear(5, 2))

    def forward(self, x):
        h = F.tanh(self.l1(x)) * F.broadcast_to(self.scale, (len(x), 5))
        for link in self.rest:
            h = F.sigmoid(link(h))
        return h


PATHS = ["/scale", "/l1/W", "/l1/b", "/rest/0/W", "/rest/0/b", "/rest/1/W", "/rest/1/b"]


def paths(model):
    return [path for path, _ in model.namedparams()]


@pytest.mark.parametrize("n_in", [3, None])
def test_gradients(n_in):
    with distrain.using_config("dtype", np.float64):
        model = Net(n_in)
        model(X)
        assert all(param.dtype == np.float64 for param in model.params())
        check_backward(model, X, random.randn(4, 2), params=list(model.params()))


@pytest.mark.parametrize("n_in", [3, None])
def test_gradients_of_a_shared_child(n_in):
    with distrain.using_config("dtype", np.float64):
        shared = L.Linear(n_in, 3)
        model = distrain.ChainList(shared, shared)
        shared(X)
        assert paths(model) == ["/0/W", "/0/b"]
        check_backward(lambda x: model[1](F.tanh(model[0](x))), X, random.randn(4, 3), params=list(model.params()))


def test_walking():
    model = Net(3)
    assert paths(model) == PATHS
    assert [path for path, _ in model.namedlinks()] == ["/", "/l1", "/rest", "/rest/0", "/rest/1"]
    assert [path for path, _ in model.namedlinks(skipself=True)] == ["/l1", "/rest", "/rest/0", "/rest/1"]
    assert list(model.children()) == [model.l1, model.rest]
    assert list(model.named_children()) == [("l1", model.l1), ("rest", model.rest)]
    assert [link.name for link in model.links()] == [None, "l1", "rest", "0", "1"]
    assert model.count_params() == 3 * 5 + 5 + 5 + 5 * 5 + 5 + 5 * 2 + 2
    assert [path for path, _ in Net().namedparams(include_uninit=False)] == [p for p in PATHS if p != "/l1/W"]


def test_children_by_keyword():
    model = distrain.Chain(a=L.Linear(3, 2), b=L.EmbedID(4, 2))
    assert [name for name, _ in model.named_children()] == ["a", "b"]
    assert model["a"] is model.a
    assert model.b.name == "b"
    with pytest.raises(KeyError, match="'c'; its children are a, b"):
        model["c"]
    model.c = L.Linear(3, 2)  # outside of init_scope
    with pytest.raises(KeyError, match="'c'"):
        model["c"]
    assert len(paths(model)) == 3


def test_add_link():
    model = Net(3)
    model.add_link("extra", L.Linear(2, 1))
    assert model["extra"] is model.extra
    assert paths(model) == [*PATHS, "/extra/W", "/extra/b"]
    for taken in ("extra", "l1", "scale"):
        with pytest.raises(ArgumentError, match=f"'{taken}' already"):
            model.add_link(taken, L.Linear(2, 1))
    with pytest.raises(ArgumentError, match="'function' must be a Link, not function"):
        model.add_link("function", F.relu)
    assert not hasattr(model, "function")
    with pytest.raises(ArgumentError, match="must be a Link"):
        distrain.Chain(relu=F.relu)


def test_add_link_before_init():
    class Forgot(distrain.Chain):
        def __init__(self):
            self.add_link("a", L.Linear(3, 2))

    class ForgotList(distrain.ChainList):
        def __init__(self):
            self.add_link(L.Linear(3, 2))

    for cls in (Forgot, ForgotList):
        with pytest.raises(ArgumentError, match=rf"super\(\).__init__\(\) first in {cls.__name__}"):
            cls()


def test_deleting_and_replacing_a_child():
    model = Net(3)
    del model.rest
    assert paths(model) == ["/scale", "/l1/W", "/l1/b"]
    with model.init_scope():
        model.l1 = L.Linear(3, 5, nobias=True)
    assert paths(model) == ["/scale", "/l1/W"]
    assert model.l1.name == "l1"


def test_the_scope_ends():
    model = Net(3)
    assert not model.within_init_scope
    with model.init_scope():
        assert model.within_init_scope
        assert not model.l1.within_init_scope
        with model.init_scope():
            pass
        assert model.within_init_scope
    with pytest.raises(ZeroDivisionError), model.init_scope():
        raise ZeroDivisionError
    assert not model.within_init_scope


def test_chain_list():
    a, b, c = (L.Linear(3, 3) for _ in range(3))
    model = distrain.ChainList(a)
    model.append(b)
    model.extend([c])
    assert list(model) == list(model.children()) == [a, b, c]
    assert len(model) == 3
    assert model[-1] is c
    assert model[1:] == [b, c]
    assert [link.name for link in model] == ["0", "1", "2"]
    with pytest.raises(IndexError):
        model[3]
    with pytest.raises(ArgumentError, match="child 3 must be a Link, not function"):
        model.add_link(F.relu)
    with pytest.raises(ArgumentError, match="'named'"), model.init_scope():
        model.named = L.Linear(3, 3)
    with model.init_scope():
        model.scale = distrain.Parameter(1.0, (2,))
    assert paths(model) == ["/scale", *(f"/{i}/{name}" for i in range(3) for name in "Wb")]


@pytest.mark.parametrize("n_in", [3, None])
@pytest.mark.parametrize("mode", ["share", "copy", "init"])
def test_copy(mode, n_in):
    model = Net(n_in)
    other = model.copy(mode)
    assert type(other) is Net
    assert paths(other) == PATHS
    assert other.name is None
    for (_, mine), (path, theirs) in zip(model.namedlinks(), other.namedlinks(), strict=True):
        assert mine is not theirs
        assert mine.name == theirs.name, path
    x = X.astype("f")
    if mode == "copy" and n_in is not None:
        np.testing.assert_array_equal(other(x).array, model(x).array)
    other(x)
    assert model.l1.W.is_initialized == (mode == "share" or n_in is not None)
    model(x)
    for mine, theirs in zip(model.params(), other.params(), strict=True):
        assert (mine is theirs) == (mode == "share")
        before = theirs.array.copy()
        mine.array[...] += 1
        assert np.array_equal(theirs.array, before) == (mode != "share")


@pytest.mark.parametrize("make", [lambda: distrain.Chain(a=L.Linear(3, 3)), lambda: distrain.ChainList(L.Linear(3, 3))])
@pytest.mark.parametrize("mode", ["share", "copy", "init"])
def test_new_children_of_a_copy_are_its_own(make, mode):
    model = make()
    other = model.copy(mode)
    if isinstance(other, distrain.Chain):
        other.add_link("b", L.Linear(3, 3))
    else:
        other.append(L.Linear(3, 3))
    assert len(list(other.children())) == 2
    assert len(list(model.children())) == 1


def test_init_copies_start_from_the_initial_array_again():
    model = distrain.Chain(a=L.Linear(3, 2, initialW=np.ones((2, 3), "f")))
    model.a.W.array[...] = 5
    assert model.copy("init").a.W.array.tolist() == [[1] * 3] * 2


def test_init_copies_of_a_parameter_made_of_an_array_have_arrays_of_their_own():
    model = distrain.Chain()
    with model.init_scope():
        model.s = distrain.Parameter(np.zeros(2, "f"))
    other = model.copy("init")
    model.s.array[...] = 5
    assert other.s.array.tolist() == [0, 0]


def test_init_copies_start_from_the_array_of_a_parameter():
    model = distrain.Chain()
    with model.init_scope():
        model.s = distrain.Parameter(np.zeros(2, "f"))
    model.s.array[...] = 5
    assert model.copy("init").s.array.tolist() == [0, 0]


@pytest.mark.parametrize("mode", ["share", "copy", "init"])
def test_copies_keep_shared_children_shared(mode):
    shared = L.Linear(3, 3)
    other = distrain.Chain(a=shared, b=distrain.ChainList(shared)).copy(mode)
    assert other.a.W is other.b[0].W
    assert (other.a.W is shared.W) == (mode == "share")
    assert paths(other) == ["/a/W", "/a/b"]


def test_a_child_assigned_later_is_trained():
    model = Net(3)
    optimizer = distrain.optimizers.SGD(1.0).setup(model)
    x = X.astype("f")
    optimizer.update(lambda: F.sum(model(x)))
    model.l1 = L.Linear(3, 5)  # outside of init_scope, in place of a registered child
    before = model.l1.W.array.copy()
    optimizer.update(lambda: F.sum(model(x)))
    assert not np.array_equal(model.l1.W.array, before)


@pytest.mark.parametrize("mode", ["share", "copy", "init"])
def test_repeat(mode):
    model = Net(3).repeat(2, mode)
    assert isinstance(model, distrain.Sequential)
    assert [type(layer) for layer in model] == [Net, Net]
    first, second = model
    assert first is not second
    assert (first.l1.W is second.l1.W) == (mode == "share")
    assert np.array_equal(first.l1.W.array, second.l1.W.array) == (mode != "init")
    assert paths(model) == [f"/{i}{path}" for i in range(1 if mode == "share" else 2) for path in PATHS]


def test_repeat_draws_anew_by_default():
    first, second = L.Linear(3, 3).repeat(2)
    assert not np.array_equal(first.W.array, second.W.array)


def test_errors_name_the_path():
    model = L.Classifier(Net(3))
    model.predictor.l1.W.array = np.zeros((5, 7), "f")
    with pytest.raises(InvalidType, match="In link: /predictor/l1$"):
        model(X.astype("f"), np.zeros(4, "i"))


def test_errors_name_the_path_through_a_list():
    model = L.Classifier(Net(3))
    model.predictor.rest[1].W.array = np.zeros((2, 7), "f")
    with pytest.raises(InvalidType, match="In link: /predictor/rest/1$"):
        model(X.astype("f"), np.zeros(4, "i"))


def test_errors_name_a_child_assigned_later():
    model = L.Classifier(Net(3))
    model.predictor.l1 = L.Linear(7, 5)  # outside of init_scope, in place of a registered child
    with pytest.raises(InvalidType, match="In link: /predictor/l1$"):
        model(X.astype("f"), np.zeros(4, "i"))


def test_a_list_cannot_be_called():
    with pytest.raises(NotImplementedError, match="ChainList"):
        distrain.ChainList(L.Linear(3, 2))(X)


def test_gradients_of_all_below():
    model, other = Net(3), Net(3)
    x = X.astype("f")
    for net in (model, other):
        F.sum(net(x)).backward()
    expected = [a.grad + b.grad for a, b in zip(model.params(), other.params(), strict=True)]
    model.addgrads(other)
    for param, grad in zip(model.params(), expected, strict=True):
        np.testing.assert_allclose(param.grad, grad, rtol=1e-6)
    model.zerograds()
    assert not any(param.grad.any() for param in model.params())
    model.cleargrads()
    assert all(param.grad is None for param in model.params())


def test_copyparams_sizes_and_fills():
    model, other = Net(3), Net()
    x = X.astype("f")
    other.copyparams(model)
    np.testing.assert_array_equal(other(x).array, model(x).array)
    assert other.l1.W.array is not model.l1.W.array


@pytest.mark.parametrize("n_in", [3, None])
def test_round_trip(n_in, tmp_path):
    model = Net(3)
    model.add_persistent("count", np.arange(3))
    save_npz(tmp_path / "m", model)
    with np.load(tmp_path / "m") as file:
        assert sorted(file.files) == sorted([*(path[1:] for path in PATHS), "count"])
    other = Net(n_in)
    other.add_persistent("count", np.zeros(3, int))
    load_npz(tmp_path / "m", other)
    x = X.astype("f")
    np.testing.assert_array_equal(other(x).array, model(x).array)
    assert other.count.tolist() == [0, 1, 2]
