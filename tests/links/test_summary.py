from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain.errors import ArgumentError


def test_rows_of_a_perceptron():
    model = distrain.Sequential(L.Linear(None, 50), F.relu, L.Linear(50, 10))
    summary = L.summarize(model, np.zeros((4, 8), np.float32))
    assert [(r.link, r.shape, r.parameters, r.flops) for r in summary.rows] == [
        ("0", (4, 50), 8 * 50 + 50, 2 * 4 * 8 * 50),
        ("", (4, 50), 0, 200),
        ("1", (4, 10), 510, 2 * 4 * 50 * 10),
    ]
    assert summary.parameters == model.count_params() == 960
    assert summary.nbytes == 4 * 960
    assert summary.flops == sum(row.flops for row in summary.rows)


def test_the_table():
    model = L.Linear(3, 2)
    text = str(L.summarize(model, np.zeros((500, 3), np.float32)))
    assert text.splitlines() == [
        "link  function  output shape  parameters  FLOPs",
        "----  --------  ------------  ----------  -----",
        "      Linear    (500, 2)               8    6 k",
        "",
        "8 parameters (32 B), 6 kFLOP forward",
    ]


def test_convolutions_and_products():
    class Net(L.Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.conv = L.Convolution2D(3, 8, 3, pad=1)
                self.embed = L.EmbedID(5, 4)

        def forward(self, x, words):
            h = F.max_pooling_2d(F.relu(self.conv(x)), 2)
            return {"a": F.matmul(self.embed(words), np.ones((4, 6), np.float32)), "b": [h]}

    summary = L.summarize(Net(), np.zeros((2, 3, 8, 8), np.float32), np.zeros(7, np.int32))
    rows = {row.function: row for row in summary.rows}
    conv = next(row for row in summary.rows if row.link == "conv")
    assert conv.flops == 2 * (2 * 8 * 8 * 8) * (3 * 3 * 3)
    assert conv.shape == (2, 8, 8, 8)
    assert rows["EmbedID"].flops == 0
    assert rows["MatMul"].flops == 2 * 7 * 6 * 4


def test_a_shared_parameter_counts_once():
    link = L.Linear(3, 3)
    summary = L.summarize(distrain.Sequential(link, F.relu, link), np.zeros((1, 3), np.float32))
    assert [row.parameters for row in summary.rows] == [12, 0, 0]
    assert summary.parameters == 12


def test_leaves_the_model_and_the_mode_alone(tmp_path):
    model = L.Classifier(distrain.Sequential(L.Linear(4, 3), L.BatchNormalization(3), F.dropout))
    before = {path: np.copy(value) for path, value in model.namedpersistents()}
    with distrain.no_backprop_mode():
        L.summarize(model, np.ones((2, 4), np.float32), np.zeros(2, np.int32))
    for path, value in model.namedpersistents():
        np.testing.assert_array_equal(value, before[path])
    assert all(param.grad is None for param in model.params())


def test_a_model_without_parameters_is_an_error():
    with pytest.raises(ArgumentError, match="does not depend on a parameter"):
        L.summarize(distrain.Sequential(F.relu), np.ones((2, 4), np.float32))
