"""The table of vectors."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain.errors import InvalidType
from distrain.gradient_check import check_backward

random = np.random.RandomState(0)
IDS = np.array([[0, 2, 2], [3, 0, 2]], "i")


def test_values_and_gradients():
    with distrain.using_config("dtype", np.float64):
        link = L.EmbedID(5, 4)
        y = link(IDS)
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y.array, link.W.array[IDS])
        check_backward(link, IDS, random.randn(2, 3, 4), params=link.W)


@pytest.mark.parametrize("ignore", [-1, 2])
def test_ignored_ids_are_zeros_without_gradient(ignore):
    ids = np.where(IDS == 2, ignore, IDS)
    with distrain.using_config("dtype", np.float64):
        link = L.EmbedID(5, 4, ignore_label=ignore)
        y = link(ids)
        np.testing.assert_array_equal(y.array, np.where((ids == ignore)[..., None], 0, link.W.array[ids]))
        F.sum(y).backward()
        # 0 stands there twice, 3 once, the ignored one three times.
        np.testing.assert_array_equal(link.W.grad, np.repeat([[2], [0], [0], [1], [0]], 4, axis=1))
        check_backward(link, ids, random.randn(2, 3, 4), params=link.W)


def test_all_ids_ignored():
    link = L.EmbedID(5, 4, ignore_label=-1)
    y = link(np.full(3, -1, "i"))
    assert not y.array.any()
    F.sum(y).backward()
    assert link.W.grad.shape == (5, 4)
    assert not link.W.grad.any()


@pytest.mark.parametrize(("wrong", "ignore"), [(5, None), (-1, None), (-2, -1)])
def test_unknown_ids(wrong, ignore):
    ids = IDS.copy()
    ids[1, 2] = wrong
    model = distrain.Chain(embed=L.EmbedID(5, 4, ignore_label=ignore))
    with pytest.raises(InvalidType, match=rf"{wrong} at index \(1, 2\)(.|\n)*/embed"):
        model.embed(ids)


def test_ids_are_integers():
    with pytest.raises(InvalidType, match="embed_id"):
        L.EmbedID(5, 4)(IDS.astype("f"))


@pytest.mark.parametrize("dtype", ["b", "B", "i", "q"])
def test_dtypes_and_shapes_of_ids(dtype):
    link = L.EmbedID(5, 4)
    for ids in (IDS, IDS[0], IDS[0, :1].reshape(1, 1, 1)):
        assert link(ids.astype(dtype)).shape == (*ids.shape, 4)


def test_initializers():
    W = random.randn(5, 4).astype("f")
    np.testing.assert_array_equal(L.EmbedID(5, 4, initialW=W).W.array, W)
    default = L.EmbedID(200, 100).W
    assert default.dtype == np.float32
    assert abs(default.array.std() - 1) < 0.02
