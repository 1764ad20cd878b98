from __future__ import annotations

import itertools

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable, using_config
from distrain.errors import ArgumentError, InvalidType
from distrain.gradient_check import check_backward, check_double_backward
from tests.functions.cases import draw

WEIGHT = np.array([0.5, 1.0, 2.0, 3.0])
LABELS = {
    (5, 4): np.array([0, 3, 1, 1, 2], np.int32),
    (2, 4, 3): np.array([[0, 1, 2], [3, 1, 0]]),
    (2, 4, 1, 2): np.array([[[0, 3]], [[1, 2]]], np.int8),
}


def expected(x, t, normalize=True, class_weight=None, ignore_label=-1, reduce="mean"):
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    losses = np.zeros(t.size)
    for i, label in enumerate(t.ravel()):
        if label != ignore_label:
            losses[i] = np.log(np.exp(rows[i]).sum()) - rows[i, label]
            losses[i] *= 1 if class_weight is None else class_weight[label]
    if reduce == "no":
        return losses.reshape(t.shape)
    return losses.sum() / max(1, (t != ignore_label).sum() if normalize else len(t))


SETTINGS = list(
    itertools.product([True, False], [True, False], [None, WEIGHT], ["mean", "no"], ["none", "some", "class"])
)


@pytest.mark.parametrize("shape", LABELS)
@pytest.mark.parametrize(("normalize", "cache_score", "class_weight", "reduce", "ignored"), SETTINGS)
def test_values_and_derivatives(shape, normalize, cache_score, class_weight, reduce, ignored):
    (x,), t = draw(shape), LABELS[shape].copy()
    ignore_label = 1 if ignored == "class" else -1
    if ignored == "some":
        t.flat[[0, -1]] = -1
    settings = {"normalize": normalize, "class_weight": class_weight, "ignore_label": ignore_label, "reduce": reduce}
    func = lambda x: F.softmax_cross_entropy(x, t, cache_score=cache_score, **settings)  # noqa: E731
    want = expected(x, t, **settings)
    np.testing.assert_allclose(func(x).array, want, rtol=1e-7)
    for dtype in (np.float16, np.float32):
        y = func(x.astype(dtype))
        assert y.dtype == dtype
        assert y.shape == want.shape
        np.testing.assert_allclose(y.array, want, rtol=5e-3, atol=5e-3)
    (gy,) = draw(y.shape, seed=1)
    check_backward(func, x, gy, dtype=np.float64)
    check_double_backward(func, x, gy, draw(shape, seed=2), dtype=np.float64)
    variable = Variable(x.astype(np.float16))
    y = func(variable)
    y.grad = gy.astype(np.float16)
    y.backward()
    assert variable.grad.dtype == np.float16


def test_strides_do_not_matter():
    (x,), t = draw((5, 8)), LABELS[5, 4]
    for view in (x[:, ::2], np.asfortranarray(x[:, :4])):
        np.testing.assert_allclose(F.softmax_cross_entropy(view, t).array, expected(view, t), rtol=1e-7)
        check_backward(lambda x: F.softmax_cross_entropy(x, t), view, None, dtype=np.float64)


def test_backward_twice_gives_the_same():
    x, t = Variable(draw((5, 4))[0]), LABELS[5, 4]
    loss = F.softmax_cross_entropy(x, t)
    loss.backward()
    first = x.grad.copy()
    x.cleargrad()
    loss.backward()
    np.testing.assert_array_equal(x.grad, first)


def test_large_logits():
    x = Variable(np.array([[1e4, 0], [0, 1e4]], np.float32))
    loss = F.softmax_cross_entropy(x, np.array([0, 0]))
    loss.backward()
    assert loss.array == 5000
    np.testing.assert_array_equal(x.grad, [[0, 0], [-0.5, 0.5]])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0)])
def test_an_empty_batch_has_loss_zero(shape, normalize):
    x, t = Variable(np.ones(shape, np.float32)), np.zeros(shape[:1] + shape[2:], int)
    loss = F.softmax_cross_entropy(x, t, normalize)
    loss.backward()
    assert loss.array == 0
    assert x.grad.shape == shape
    assert F.softmax_cross_entropy(x, t, reduce="no").shape == t.shape


@pytest.mark.parametrize("normalize", [True, False])
def test_a_batch_of_ignored_labels_has_loss_zero(normalize):
    x = Variable(np.ones((2, 3), np.float32))
    loss = F.softmax_cross_entropy(x, np.array([-1, -1]), normalize)
    loss.backward()
    assert loss.array == 0
    np.testing.assert_array_equal(x.grad, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("labels", "ignore_label", "message"),
    [
        ([0, 1, 3], -1, r"sample 2 of the batch has label 3, but there are 3 classes.*0 … 2; label -1 is ignored"),
        ([0, -2, 1], -1, "sample 1 of the batch has label -2"),
        ([-1, 1, 1], None, "sample 0 of the batch has label -1.*nothing is ignored"),
        ([0, 7, 9], -1, r"sample 1 of the batch has label 7.*\(2 labels of this batch are out of range\)"),
        ([[0, 1], [5, 0]], -1, r"sample \(1, 0\) of the batch has label 5"),
    ],
)
def test_a_label_out_of_range_is_refused(labels, ignore_label, message):
    t = np.array(labels)
    x = np.ones((len(t), 3, *t.shape[1:]), np.float32)
    with pytest.raises(ArgumentError, match=message):
        F.softmax_cross_entropy(x, t, ignore_label=ignore_label)
    with using_config("type_check", False), pytest.raises(ArgumentError, match=message):
        F.softmax_cross_entropy(x, t, ignore_label=ignore_label)


def test_unsigned_labels():
    x, t = draw((5, 4))[0], LABELS[5, 4]
    np.testing.assert_array_equal(
        F.softmax_cross_entropy(x, t.astype(np.uint8)).array, F.softmax_cross_entropy(x, t).array
    )


def test_wrong_arguments_are_refused():
    x, t = np.ones((2, 3)), np.zeros(2, int)
    with pytest.raises(InvalidType, match=r"(?s)softmax_cross_entropy .*Argument: x.*floating.*int64"):
        F.softmax_cross_entropy(x.astype(int), t)
    with pytest.raises(InvalidType, match=r"(?s)softmax_cross_entropy .*Argument: t.*integer.*float64"):
        F.softmax_cross_entropy(x, t.astype(float))
    with pytest.raises(
        InvalidType, match=r"(?s)softmax_cross_entropy .*Argument: t\nExpect: shape \(2,\).*\(2, 3\), int"
    ):
        F.softmax_cross_entropy(x, np.zeros((2, 3), int))
    with pytest.raises(InvalidType, match=r"(?s)softmax_cross_entropy .*Argument: x\nExpect: shape \(N, K, …\)"):
        F.softmax_cross_entropy(np.ones(3), t)
    with pytest.raises(InvalidType, match=r"(?s)softmax_cross_entropy .*Argument: class_weight\nExpect: shape \(3,\)"):
        F.softmax_cross_entropy(x, t, class_weight=np.ones(2))
    with pytest.raises(ArgumentError, match="reduce must be 'mean' or 'no', not 'sum'"):
        F.softmax_cross_entropy(x, t, reduce="sum")
