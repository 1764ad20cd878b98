from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.links as L
from distrain import optimizers
from distrain.errors import ArgumentError
from distrain.optimizer_hooks import GradientClipping


def test_huge_gradients_are_clipped_and_not_lost() -> None:
    model = L.Linear(2, 1, nobias=True, initialW=0)
    optimizer = optimizers.SGD(lr=1).setup(model)
    optimizer.add_hook(GradientClipping(5))
    model.W.grad = np.array([[3e30, 4e30]], np.float32)
    with np.errstate(over="ignore"):
        optimizer.update()
    np.testing.assert_allclose(model.W.array, [[-3, -4]], rtol=1e-5)


def test_hooks_have_names_and_can_go() -> None:
    model = L.Linear(2, 1)
    optimizer = optimizers.SGD(lr=1).setup(model)
    optimizer.add_hook(GradientClipping(5), "clip")
    with pytest.raises(ArgumentError, match="a hook 'clip' already"):
        optimizer.add_hook(GradientClipping(5), "clip")
    optimizer.remove_hook("clip")
    with pytest.raises(ArgumentError, match="no hook 'clip'"):
        optimizer.remove_hook("clip")
    with pytest.raises(ArgumentError, match="positive"):
        distrain.optimizer_hooks.GradientClipping(0)
