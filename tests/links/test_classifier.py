"""The predictor with its loss and accuracy."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain.errors import ArgumentError
from distrain.gradient_check import check_backward
from distrain.reporting import Reporter

random = np.random.RandomState(0)
X = random.randn(5, 3).astype("f")
T = np.array([0, 1, 1, 0, 1], "i")


class Recorder(distrain.Link):
    """Remembers its arguments and gives fixed outputs."""

    def __init__(self, y=None):
        super().__init__()
        self.y = np.zeros((5, 2), "f") if y is None else y

    def forward(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
        return distrain.as_variable(self.y)


def observed(model, *args, **kwargs):
    reporter = Reporter()
    reporter.add_observer("main", model)
    observation = {}
    with reporter, reporter.scope(observation):
        model(*args, **kwargs)
    return observation


def as_float(value):
    return float(distrain.as_array(value))


@pytest.mark.parametrize("n_in", [3, None])
def test_loss_and_gradients(n_in):
    with distrain.using_config("dtype", np.float64):
        model = L.Classifier(L.Linear(n_in, 2))
        x = X.astype(np.float64)
        loss = model(x, T)
        y = x @ model.predictor.W.array.T
        log_p = y - np.log(np.exp(y).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(loss.array, -log_p[np.arange(5), T].mean(), rtol=1e-10)
        np.testing.assert_allclose(model.y.array, y, rtol=1e-10)
        assert model.loss is loss
        assert as_float(model.accuracy) == pytest.approx((y.argmax(axis=1) == T).mean())
        check_backward(model, (x, T), None, params=list(model.params()))


def test_reports():
    y = np.eye(2, dtype="f")[[0, 1, 0, 0, 0]]  # three of five right
    observation = observed(L.Classifier(Recorder(y)), X, T)
    assert sorted(observation) == ["main/accuracy", "main/loss"]
    assert as_float(observation["main/accuracy"]) == pytest.approx(0.6)
    right, wrong = np.log(1 + np.exp(-1)), np.log(1 + np.exp(1))
    assert as_float(observation["main/loss"]) == pytest.approx((3 * right + 2 * wrong) / 5)


def test_own_functions():
    def lossfun(y, t):
        return F.sum(y) + float(t.sum())

    def accfun(y, t):
        return np.float32(len(y) + len(t))

    observation = observed(L.Classifier(Recorder(np.ones((5, 2), "f")), lossfun, accfun), X, T)
    assert as_float(observation["main/loss"]) == 13
    assert as_float(observation["main/accuracy"]) == 10


def test_without_accuracy():
    model = L.Classifier(Recorder(), accfun=None)
    assert not model.compute_accuracy
    assert list(observed(model, X, T)) == ["main/loss"]
    assert model.accuracy is None


def test_compute_accuracy_switched_off():
    model = L.Classifier(Recorder())
    model.compute_accuracy = False
    assert list(observed(model, X, T)) == ["main/loss"]
    assert model.accuracy is None


def test_attributes_are_of_the_last_call():
    model = L.Classifier(Recorder())
    model(X, T)
    model.compute_accuracy = False
    model(X, T)
    assert model.accuracy is None


@pytest.mark.parametrize(("key", "place"), [(-1, 2), (0, 0), (1, 1), (2, 2), (-2, 1), (-3, 0)])
def test_label_by_number(key, place):
    model = L.Classifier(Recorder(), label_key=key)
    args = [X, X + 1]
    given = args[:place] + [T] + args[place:]
    loss = model(*given, flag=3)
    assert as_float(loss) == pytest.approx(np.log(2))
    assert len(model.predictor.args) == 2
    assert model.predictor.args[0] is args[0]
    assert model.predictor.args[1] is args[1]
    assert model.predictor.kwargs == {"flag": 3}


def test_label_by_name():
    model = L.Classifier(Recorder(), label_key="t")
    observation = observed(model, X, t=T, x=X)
    assert sorted(observation) == ["main/accuracy", "main/loss"]
    assert model.predictor.args == (X,)
    assert list(model.predictor.kwargs) == ["x"]
    given = {"x": X, "t": T}
    model(**given)
    assert list(given) == ["x", "t"]  # the caller's dict stays whole
    assert model.predictor.args == ()


def test_errors():
    for key in (None, 1.5, [0]):
        with pytest.raises(ArgumentError, match="label_key"):
            L.Classifier(Recorder(), label_key=key)
    for key in (2, -3):
        with pytest.raises(ArgumentError, match=f"label_key is {key}, but there are 2"):
            L.Classifier(Recorder(), label_key=key)(X, T)
    with pytest.raises(ArgumentError, match="there are 0"):
        L.Classifier(Recorder())(x=X, t=T)
    model = L.Classifier(Recorder(), label_key="label")
    with pytest.raises(ArgumentError, match="'label', but the keywords are x, t"):
        model(x=X, t=T)
    with pytest.raises(ArgumentError, match="'label', but the keywords are none"):
        model(X, T)


def test_the_predictor_is_the_only_child():
    model = L.Classifier(L.Linear(3, 2))
    assert [name for name, _ in model.named_children()] == ["predictor"]
    assert [path for path, _ in model.namedparams()] == ["/predictor/W", "/predictor/b"]
