from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers
from distrain.errors import ArgumentError
from distrain.optimizers import UpdateRule
from distrain.serializers import load_npz, save_npz

X = np.ones((2, 3), np.float32)


def make(kind: Any = optimizers.MomentumSGD, **arguments: Any) -> tuple[Any, Any]:
    model = L.Linear(3, 2, initialW=1)
    return kind(**arguments).setup(model), model


def test_update_with_and_without_a_loss_function() -> None:
    (a, one), (b, other) = make(lr=0.1), make(lr=0.1)
    for _ in range(3):
        a.update(lambda x: F.sum(one(x) ** 2), X)
        other.cleargrads()
        F.sum(other(X) ** 2).backward()
        b.update()
    np.testing.assert_array_equal(one.W.array, other.W.array)
    assert a.t == b.t == 3


@pytest.mark.parametrize("scale", [2.0**4, 2.0**10])
def test_a_constant_loss_scale_changes_nothing(scale: float) -> None:
    (a, one), (b, other) = make(lr=0.1), make(lr=0.1)
    b.set_loss_scale(scale)
    a.update(lambda: F.sum(one(X)))
    b.update(lambda: F.sum(other(X)))
    np.testing.assert_array_equal(one.W.array, other.W.array)


def test_a_dynamic_loss_scale_skips_a_step_that_is_not_finite() -> None:
    optimizer, model = make(lr=0.1)
    optimizer.loss_scaling(interval=2)
    optimizer.update(lambda: F.sum(model(X)) * np.inf)
    assert (optimizer.t, optimizer.loss_scale) == (0, 2.0**15)
    np.testing.assert_array_equal(model.W.array, 1)
    for _ in range(2):
        optimizer.update(lambda: F.sum(model(X)))
    assert (optimizer.t, optimizer.loss_scale) == (2, 2.0**16)


def test_a_gradient_penalty_reaches_the_update() -> None:
    optimizer, model = make(optimizers.SGD, lr=1.0)
    x = distrain.Variable(X)
    model.cleargrads()
    F.sum(model(x) ** 2).backward(enable_double_backprop=True)
    gx = x.grad_var
    model.cleargrads()
    F.sum(gx**2).backward()
    expected = 1 - model.W.grad
    optimizer.update()
    assert np.abs(expected - 1).max() > 0
    np.testing.assert_array_equal(model.W.array, expected)


def test_nan_does_not_vanish_and_epochs_count() -> None:
    optimizer, model = make(optimizers.SGD)
    optimizer.add_hook(distrain.optimizer_hooks.GradientClipping(1.0))
    optimizer.use_cleargrads(False)
    optimizer.update(lambda: F.sum(model(X)) * np.nan)
    assert np.isnan(model.W.array).all()
    optimizer.new_epoch()
    optimizer.new_epoch(auto=True)
    assert optimizer.epoch == 2
    with pytest.raises(ArgumentError, match="updater counts the epochs"):
        optimizer.new_epoch()
    with pytest.raises(ArgumentError, match="setup"):
        optimizers.SGD().update()


class Remembering(UpdateRule):
    def init_state(self, param: Any) -> None:
        self.state["sum"] = np.zeros(param.shape, np.float32)

    def update_core_cpu(self, param: Any) -> None:
        self.state["sum"] += param.grad
        param.array -= self.state["sum"]


class Remembers(optimizers.GradientMethod):
    def create_update_rule(self) -> UpdateRule:
        return Remembering()


@pytest.mark.parametrize("kind", [optimizers.Adam, Remembers])
@pytest.mark.parametrize("steps_before_load", [0, 1])
def test_a_file_continues_the_run(tmp_path: Path, kind: Any, steps_before_load: int) -> None:
    (a, one), (b, other) = make(kind), make(kind)
    for _ in range(2):
        a.update(lambda: F.sum(one(X) ** 2))
    for name, thing in (("model", one), ("optimizer", a)):
        save_npz(tmp_path / name, thing)
    for _ in range(steps_before_load):
        b.update(lambda: F.sum(other(X) ** 2))
    load_npz(tmp_path / "model", other)
    load_npz(tmp_path / "optimizer", b)
    for optimizer, model in ((a, one), (b, other)):
        optimizer.update(lambda model=model: F.sum(model(X) ** 2))
    np.testing.assert_array_equal(one.W.array, other.W.array)
    assert b.t == 3


def test_a_file_from_before_the_first_update_loads_silently(tmp_path: Path) -> None:
    optimizer, _ = make(optimizers.Adam)
    save_npz(tmp_path / "file", optimizer)
    load_npz(tmp_path / "file", make(optimizers.Adam)[0])


def test_small_float16_gradients_survive_the_loss_scale_with_a_master() -> None:
    with distrain.using_config("dtype", np.float16):
        link = L.Linear(1, 1, nobias=True, initialW=0)
    optimizer = distrain.optimizers.SGD(1.0).setup(link)
    optimizer.use_fp32_update()
    optimizer.set_loss_scale(2.0**14)
    x = np.full((1, 1), 2.0**-13, np.float16)
    optimizer.update(lambda: F.sum(link(x) * np.float16(2.0**-13)))  # the gradient is 2**-26; float16 ends at 2**-24
    assert link.W.update_rule.state["master"].item() == -(2.0**-26)


def test_a_parameter_that_never_gets_a_size_leaves_the_others_where_they_are() -> None:
    model = distrain.Chain(used=L.Linear(2, 2), unused=L.Linear(None, 2))
    optimizer = distrain.optimizers.SGD().setup(model)
    x = np.ones((1, 2), np.float32)
    optimizer.update(lambda: F.sum(model.used(x)))
    array = model.used.W.array
    optimizer.update(lambda: F.sum(model.used(x)))
    assert model.used.W.array is array


def test_an_optimizer_is_not_copied_with_its_model() -> None:
    with pytest.raises(ArgumentError, match="copy the model and set up a new optimizer"):
        copy.deepcopy(distrain.optimizers.Adam().setup(L.Linear(2, 2)))
