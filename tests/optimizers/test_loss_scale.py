from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers
from distrain.errors import ArgumentError
from distrain.optimizers.loss_scale import LossScale
from distrain.serializers import load_npz, save_npz


def test_it_halves_after_a_bad_step_and_doubles_after_enough_good_ones() -> None:
    scale = LossScale(8, 3)
    assert scale.is_dynamic
    seen = []
    for finite in (True, True, True, True, True, False, True, True, True):
        scale.adjust(finite)
        seen.append(scale.value)
    assert seen == [8, 8, 16, 16, 16, 8, 8, 8, 16]  # a bad step begins the count anew


def test_it_never_falls_below_1() -> None:
    scale = LossScale(3, 10)
    for expected in (1.5, 1, 1):
        scale.adjust(False)
        assert scale.value == expected


def test_a_constant_one_does_not_grow() -> None:
    scale = LossScale(8, None)
    assert not scale.is_dynamic
    for _ in range(5):
        scale.adjust(True)
    assert scale.value == 8


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_factor_that_is_not_positive_is_refused(value: float) -> None:
    with pytest.raises(ArgumentError, match=f"loss scale must be positive, not {value}"):
        LossScale(value, None)
    for ask in (lambda o: o.set_loss_scale(value), lambda o: o.loss_scaling(scale=value)):
        with pytest.raises(ArgumentError, match="must be positive"):
            ask(optimizers.SGD())


def make(**scaling: Any) -> tuple[Any, Any]:
    model = L.Linear(2, 1, initialW=1)
    optimizer = optimizers.SGD(lr=1).setup(model)
    optimizer.loss_scaling(**scaling)
    return optimizer, model


def test_a_file_continues_the_search(tmp_path: Path) -> None:
    optimizer, model = make(interval=4)
    for factor in (np.inf, 1, 1, 1):
        optimizer.update(lambda factor=factor: F.sum(model(np.ones((1, 2), np.float32))) * factor)
    save_npz(tmp_path / "file", optimizer)
    other, its_model = make(interval=4)
    load_npz(tmp_path / "file", other)
    assert other.loss_scale == 2.0**15
    other.update(lambda: F.sum(its_model(np.ones((1, 2), np.float32))))
    assert other.loss_scale == 2.0**16  # the fourth good step


def test_a_file_of_a_run_without_it_loads_with_a_warning(tmp_path: Path) -> None:
    save_npz(tmp_path / "file", optimizers.SGD().setup(L.Linear(2, 1)))
    optimizer, _ = make(interval=4)
    with pytest.warns(UserWarning, match="loss_scale/value"):
        load_npz(tmp_path / "file", optimizer)
    assert optimizer.loss_scale == 2.0**16


def tiny_step(scale: float | None) -> Any:
    """The weight of a float16 layer after a step with a gradient of 1e-8, below the smallest number of float16."""
    model = L.Linear(1, 1, nobias=True, initialW=distrain.initializers.Zero(np.float16))
    optimizer = optimizers.SGD(lr=1e5)
    optimizer.use_fp32_update()
    optimizer.setup(model)
    if scale is not None:
        optimizer.loss_scaling(scale=scale)
    x = np.full((1, 1), 1e-4, np.float16)
    optimizer.update(lambda: F.sum(model(x) * np.float16(1e-4)))
    assert model.W.dtype == np.float16
    return model.W.array


def test_small_gradients_survive_float16_with_it_only() -> None:
    np.testing.assert_array_equal(tiny_step(None), 0)
    np.testing.assert_allclose(tiny_step(1024), -1e-3, rtol=2e-2)
