"""Building, walking, copying and saving links."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain.errors import ArgumentError, InvalidType
from distrain.serializers import load_npz, save_npz


class MLP(distrain.Chain):
    def __init__(self, n_in=None):
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(n_in, 4)
            self.l2 = L.Linear(4, 2)

    def __call__(self, x):
        return self.l2(self.l1(x))


def test_paths():
    assert [path for path, _ in L.Classifier(MLP(3)).namedparams()] == [
        f"/predictor/{name}" for name in ("l1/W", "l1/b", "l2/W", "l2/b")
    ]


def test_error_names_the_link():
    model = L.Classifier(MLP(3))
    model.predictor.l2.W.array = np.zeros((2, 5), "f")
    with pytest.raises(InvalidType, match="/predictor/l2"):
        model(np.ones((1, 3), "f"), np.zeros(1, "i"))


def test_forgotten_init():
    class Forgot(distrain.Chain):
        def __init__(self):
            with self.init_scope():
                self.l = L.Linear(3, 2)

    with pytest.raises(ArgumentError, match=r"super\(\).__init__\(\)"):
        Forgot()


def test_add_param_keeps_the_asked_dtype():
    link = distrain.Link()
    link.add_param("a", (2, 3), np.float64, distrain.initializers.Normal())
    link.add_param("b", 2, np.float16)
    assert link.a.dtype == np.float64
    assert link.b.dtype == np.float16
    assert np.isnan(link.b.array).all()
    with pytest.raises(ArgumentError, match="'a' already"):
        link.add_param("a")


@pytest.mark.parametrize("after_setup", [False, True])
def test_copy_modes(after_setup):
    model = MLP(3)
    if after_setup:
        distrain.optimizers.SGD().setup(model)
    share, copy, init = (model.copy(mode) for mode in ("share", "copy", "init"))
    assert share.l1.W is model.l1.W
    model.l1.W.array[...] += 1
    np.testing.assert_allclose(copy.l1.W.array + 1, model.l1.W.array, rtol=1e-6)
    assert not np.array_equal(init.l1.W.array, copy.l1.W.array)
    assert copy.l1.name == "l1"
    assert copy.l1.W.update_rule is None
    with pytest.raises(ArgumentError, match="mode must be"):
        model.copy("other")


def test_a_lazy_model_loads_in_its_own_dtype(tmp_path):
    model = MLP(3)
    save_npz(tmp_path / "m", model)
    lazy = MLP()
    lazy.l1.W.initializer = distrain.initializers.Normal(dtype=np.float16)
    load_npz(tmp_path / "m", lazy)
    assert lazy.l1.W.dtype == np.float16
    np.testing.assert_array_equal(lazy.l1.W.array, model.l1.W.array.astype(np.float16))
    np.testing.assert_array_equal(lazy.l2.W.array, model.l2.W.array)


def test_a_parameter_or_link_assigned_anew_takes_the_place_of_the_old_one() -> None:
    model = distrain.Chain(l1=L.Linear(4, 3), l2=L.Linear(3, 2))
    optimizer = distrain.optimizers.SGD(0.5).setup(model)
    x = np.ones((5, 4), np.float32)
    optimizer.update(lambda: F.sum(model.l2(model.l1(x))))
    model.l2 = head = L.Linear(3, 7)
    assert head.name == "l2"
    before = head.b.array.copy()
    optimizer.update(lambda: F.sum(model.l2(model.l1(x))))
    np.testing.assert_allclose(head.b.array, before - 0.5 * 5)

    model.l1.b = None
    assert [path for path, _ in model.namedparams()] == ["/l1/W", "/l2/W", "/l2/b"]
    optimizer.update(lambda: F.sum(model.l2(model.l1(x))))
    model.l1 = None
    assert [path for path, _ in model.namedparams()] == ["/l2/W", "/l2/b"]


@pytest.mark.parametrize("mode", ["copy", "init"])
def test_what_is_shared_stays_shared_in_a_copy(mode: str) -> None:
    layer = L.Linear(3, 3)
    twice = distrain.Sequential(layer, F.relu, layer)
    other = twice.copy(mode)
    assert len(list(other.params())) == 2
    assert other[0] is other[2]
    assert other[0] is not layer

    a, b = L.Linear(3, 3), L.Linear(3, 3)
    b.W = a.W
    tied = distrain.Chain(a=a, b=b).copy(mode)
    assert tied.a.W is tied.b.W
    assert tied.a.W is not a.W


def test_copyparams_and_addgrads_refuse_another_structure() -> None:
    model = distrain.Chain(l1=L.Linear(4, 3))
    for other, message in (
        (distrain.Chain(l2=L.Linear(4, 3)), "only here .*/l1/W.*only there .*/l2/W"),
        (distrain.Chain(l1=L.Linear(5, 3)), r"/l1/W has shape \(3, 4\) here, but \(3, 5\) there"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.copyparams(other)
        with pytest.raises(ArgumentError, match=message):
            model.addgrads(other)


def test_a_link_without_its_constructor_says_so() -> None:
    class Forgot(distrain.Chain):
        def __init__(self) -> None:
            self.units = 3

    with pytest.raises(ArgumentError, match=r"super\(\).__init__\(\) first in Forgot.__init__"):
        list(Forgot().params())
