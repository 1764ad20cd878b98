from __future__ import annotations

import os

import numpy as np
import pytest

import distrain
import distrain.links as L
from distrain.errors import ArgumentError
from distrain.training.updaters.shared import SharedArrays


class Two(L.Chain):
    def __init__(self, dtype=np.float32) -> None:
        super().__init__()
        with self.init_scope(), distrain.using_config("dtype", dtype):
            self.a = L.Linear(3, 2, initialW=1)
            self.b = L.Linear(None, 4)


@pytest.fixture
def share():
    """A model and its memory for some devices, and the same for another process."""
    made = []

    def make(model, n_devices):
        shared = SharedArrays(model, n_devices)
        made.append(shared.fd)
        return shared, SharedArrays(model.copy("copy"), n_devices, shared.fd)

    yield make
    for fd in made:
        os.close(fd)


def test_numbers_reach_the_other_process(share):
    model = Two()
    ours, theirs = share(model, 2)
    model.a.W.array[...] = 7
    ours.write_numbers()
    assert (theirs._model.a.W.array == 1).all()
    theirs.read_numbers()
    assert (theirs._model.a.W.array == 7).all()
    assert (theirs._model.a.b.array == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradients_are_weighted_and_summed(share, dtype):
    model = Two(dtype)
    ours, theirs = share(model, 2)
    model.a.W.grad = np.full((2, 3), 2, dtype)
    theirs._model.a.W.grad = np.full((2, 3), 6, dtype)
    ours.write_gradients(0)
    theirs.write_gradients(1)
    ours.sum_gradients([0.75, 0.25])
    assert model.a.W.grad.dtype == dtype
    np.testing.assert_array_equal(model.a.W.grad, np.full((2, 3), 3, dtype))
    assert model.a.b.grad is None


def test_who_has_no_gradient_counts_as_zeros(share):
    model = Two()
    ours, theirs = share(model, 2)
    for gradient in (None, np.full(2, 8, np.float32), None):
        model.a.b.grad, theirs._model.a.b.grad = None, gradient
        ours.write_gradients(0)
        theirs.write_gradients(1)
        ours.sum_gradients([0.5, 0.5])
        if gradient is None:
            assert model.a.b.grad is None
        else:
            np.testing.assert_array_equal(model.a.b.grad, [4, 4])


def test_infinite_sums_of_float16_come_without_a_warning(share):
    model = Two(np.float16)
    ours, theirs = share(model, 2)
    model.a.W.grad = theirs._model.a.W.grad = np.full((2, 3), 60000, np.float16)
    ours.write_gradients(0)
    theirs.write_gradients(1)
    ours.sum_gradients([1.0, 1.0])
    assert np.isinf(model.a.W.grad).all()


def test_a_model_that_has_changed_is_refused(share):
    model = Two()
    ours, _ = share(model, 1)
    model.b(np.zeros((1, 5), np.float32))
    with pytest.raises(ArgumentError, match="a parameter got its size"):
        ours.write_numbers()
