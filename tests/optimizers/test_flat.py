from __future__ import annotations

import copy

import numpy as np
import pytest

import distrain
from distrain import optimizers
from distrain.optimizers import UpdateRule


class Three(distrain.Chain):
    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.a, self.b = distrain.Parameter(1.0, (2,)), distrain.Parameter(2.0, (3, 2))
            self.c = distrain.Parameter(3.0)

    def give(self, value: float = 1.0) -> None:
        for param in self.params(include_uninit=False):
            param.grad = np.full(param.shape, value, param.dtype)


def step(optimizer: optimizers.GradientMethod, model: Three) -> None:
    model.give()
    optimizer.update()


def flat_of(optimizer: optimizers.GradientMethod, param: distrain.Parameter) -> bool:
    return any(
        np.shares_memory(param.array, group.array) and np.shares_memory(param.grad, group.grad)
        for group in optimizer._groups
    )


def test_parameters_lie_in_one_array_also_those_sized_late() -> None:
    model = Three()
    optimizer = optimizers.SGD(lr=1).setup(model)
    step(optimizer, model)
    np.testing.assert_array_equal(model.a.array, 0)
    model.c.initialize((4,))
    step(optimizer, model)
    assert len(optimizer._groups) == 1
    assert all(flat_of(optimizer, param) for param in model.params())
    np.testing.assert_array_equal(model.c.array, 2)


def test_flat_arrays_begin_at_a_cache_line() -> None:
    model = Three()
    optimizer = optimizers.Adam().setup(model)
    step(optimizer, model)
    (group,) = optimizer._groups
    arrays = [group.array, group.grad, *group.state.values(), *group.scratch(1, 8)]
    assert [array.ctypes.data % 64 for array in arrays] == [0] * 5
    assert all(array.dtype == np.float32 and len(array) == 8 for array in arrays)


@pytest.mark.parametrize("size", [0, 1, 49_152, 49_153, 120_000])
def test_an_update_in_blocks_is_the_update_of_the_whole(size: int) -> None:
    rng = np.random.default_rng(size)
    model = Three()
    model.c.initialize((size,))
    start = model.c.array[...] = rng.standard_normal(size)
    optimizer = optimizers.Adam().setup(model)
    rule = optimizers.Adam().create_update_rule()
    w, m, v, scratch = start.astype(np.float32), *np.zeros((3, size), np.float32)
    for t in range(1, 4):
        model.give()
        model.c.grad = g = rng.standard_normal(size).astype(np.float32)
        rule.step(w, g, (m, v), (scratch,), t, np)
        optimizer.update()
    np.testing.assert_array_equal(model.c.array, w)
    np.testing.assert_array_equal(model.c.update_rule.state["v"], v)
    np.testing.assert_allclose(model.a.array, 1 - 3e-3, rtol=1e-5)


def test_frozen_unused_and_own_hyperparameters() -> None:
    model = Three()
    model.c.initialize((1,))
    optimizer = optimizers.MomentumSGD(lr=0.5, momentum=0).setup(model)
    model.a.update_rule.enabled = False
    model.b.update_rule.hyperparam.lr = 0.25
    model.give()
    model.c.cleargrad()
    optimizer.update()
    assert [float(p.array.flat[0]) for p in (model.a, model.b, model.c)] == [1, 1.75, 3]
    model.a.update_rule.enabled = True
    step(optimizer, model)
    assert [float(p.array.flat[0]) for p in (model.a, model.b, model.c)] == [0.5, 1.5, 2.5]
    assert [p.update_rule.t for p in (model.a, model.b, model.c)] == [1, 2, 1]


def test_assigned_arrays_count_with_float32_masters_too() -> None:
    for fp32 in (False, True):
        model = distrain.Link()
        with model.init_scope():
            model.w = distrain.Parameter(np.ones(2, np.float16))
        optimizer = optimizers.SGD(lr=1).setup(model)
        optimizer.use_fp32_update(fp32)
        for _ in range(2):
            model.w.array = np.full(2, 5, np.float16)
            model.w.grad = np.ones(2, np.float16)
            optimizer.update()
            np.testing.assert_array_equal(model.w.array, 4)


def test_overlapping_optimizers_keep_their_hyperparameters() -> None:
    model, part = Three(), distrain.Chain()
    with part.init_scope():
        part.a = model.a
    first = optimizers.SGD(lr=1).setup(model)
    second = optimizers.SGD(lr=0.25).setup(part)
    step(first, model)  # `a` has the rule of the optimizer that took it last
    np.testing.assert_array_equal(model.a.array, 0.75)
    np.testing.assert_array_equal(model.b.array, 1)
    model.a.grad = np.ones(2, np.float32)
    second.update()
    np.testing.assert_array_equal(model.a.array, 0.5)


def test_setup_for_another_model_leaves_the_first() -> None:
    one, other = Three(), Three()
    optimizer = optimizers.SGD(lr=1).setup(one)
    step(optimizer, one)
    optimizer.setup(other)
    other.give()
    one.give()
    optimizer.update()
    np.testing.assert_array_equal(one.a.array, 0)
    np.testing.assert_array_equal(other.a.array, 0)


def test_a_copy_and_another_device_leave_the_flat_array() -> None:
    model = Three()
    optimizer = optimizers.SGD(lr=1).setup(model)
    step(optimizer, model)
    other = copy.deepcopy(model)
    model.to_device("cpu:1")
    step(optimizer, model)
    np.testing.assert_array_equal(model.a.array, -1)
    np.testing.assert_array_equal(other.a.array, 0)
    copy.deepcopy(optimizer.hyperparam)


class Sign(UpdateRule):
    def update_core_cpu(self, param: distrain.Parameter) -> None:
        param.array -= np.sign(param.grad)


def test_a_rule_of_the_users_own_updates_by_itself() -> None:
    model = Three()
    optimizer = optimizers.SGD(lr=0.5).setup(model)
    model.a.update_rule = Sign()
    step(optimizer, model)
    np.testing.assert_array_equal(model.a.array, 0)
    np.testing.assert_array_equal(model.b.array, 1.5)


@pytest.mark.parametrize("threshold", [1.0, 100.0])
def test_hooks_see_all_gradients(threshold: float) -> None:
    model = Three()
    optimizer = optimizers.SGD(lr=1).setup(model)
    optimizer.add_hook(distrain.optimizer_hooks.WeightDecay(0.5))
    optimizer.add_hook(distrain.optimizer_hooks.GradientClipping(threshold))
    step(optimizer, model)
    norm = np.sqrt(2 * 1.5**2 + 6 * 2**2)
    np.testing.assert_allclose(model.b.array, 2 - 2 * min(1, threshold / norm), rtol=1e-6)
