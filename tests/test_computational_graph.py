from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import distrain.functions as F
import distrain.links as L
from distrain import Parameter, Variable
from distrain.computational_graph import build_computational_graph
from distrain.errors import ArgumentError

EXPECTED = Path(__file__).parent / "data" / "computational_graph.dot"


class MLP(L.Chain):
    def __init__(self) -> None:
        super().__init__(l1=L.Linear(4, 3), l2=L.Linear(3, 2))

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))


MODEL = MLP()


def loss_of_an_mlp():
    x = Variable(np.ones((5, 4), np.float32), name="x")
    return F.softmax_cross_entropy(MODEL(x), np.zeros(5, np.int32))


def test_text_is_as_stored():
    found = build_computational_graph([loss_of_an_mlp()]).dump()
    expected = EXPECTED.read_text()
    for number, (line, other) in enumerate(zip(found.splitlines(), expected.splitlines(), strict=False), 1):
        assert line == other, f"line {number} changed; to accept it, write the new text to {EXPECTED}"
    assert len(found.splitlines()) == len(expected.splitlines())


def test_text_does_not_depend_on_the_process():
    texts = {build_computational_graph([loss_of_an_mlp()]).dump() for _ in range(3)}
    assert len(texts) == 1


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_can_read_it(tmp_path):
    (tmp_path / "cg.dot").write_text(build_computational_graph([loss_of_an_mlp()]).dump())
    subprocess.run(["dot", "-Tsvg", "cg.dot", "-o", "cg.svg"], cwd=tmp_path, check=True, timeout=30)
    assert (tmp_path / "cg.svg").read_text().count('class="edge"') == 13


def test_a_variable_that_is_used_twice_is_one_node():
    x = Variable(np.ones(3, np.float32))
    y = x * x + x
    graph = build_computational_graph([y])
    assert len(graph.nodes) == 5
    assert graph.edges.count((x.node, x.node)) == 0
    assert len([head for tail, head in graph.edges if tail is x.node]) == 3


def test_several_outputs():
    x = Variable(np.ones(3, np.float32))
    y, z = x + 1, x * 2
    graph = build_computational_graph([y, z.node])
    assert len(graph.nodes) == 5
    assert graph.nodes[-1] is z.node


def test_each_node_comes_after_its_sources():
    graph = build_computational_graph([loss_of_an_mlp()])
    place = {id(node): i for i, node in enumerate(graph.nodes)}
    assert all(place[id(tail)] < place[id(head)] for tail, head in graph.edges)


def test_deep_graphs_need_no_recursion():
    y = Variable(np.ones((), np.float32))
    for _ in range(3000):
        y = y + 1
    assert len(build_computational_graph([y]).nodes) == 6001


def test_without_variables():
    graph = build_computational_graph([loss_of_an_mlp()], remove_variable=True)
    assert [node.label for node in graph.nodes] == ["Linear", "ReLU", "Linear", "SoftmaxCrossEntropy"]
    assert len(graph.edges) == 3
    assert "float32" not in graph.dump()


def test_styles_names_and_direction():
    x = Variable(np.ones(3, np.float32), name='a "name"')
    W = Parameter(np.ones(3, np.float32), name="W")
    text = build_computational_graph(
        [x * W], variable_style={"shape": "octagon"}, function_style={"fillcolor": "red"}, rankdir="LR"
    ).dump()
    assert text.startswith("digraph graphname {rankdir=LR;")
    assert text.count('shape="octagon"') == 3
    assert text.count('fillcolor="red"') == 1
    assert r'label="a \"name\"\n(3,), float32"' in text
    assert text.count("#FFD58A") == 1  # the parameter
    assert "name" not in build_computational_graph([x], show_name=False).dump().replace("graphname", "").replace(
        "fontname", ""
    )


def test_bad_arguments():
    x = Variable(np.ones(3, np.float32))
    with pytest.raises(ArgumentError, match="rankdir must be one of TB, BT, LR, RL, not 'up'"):
        build_computational_graph([x], rankdir="up")
    with pytest.raises(ArgumentError, match="not as 'png'"):
        build_computational_graph([x]).dump("png")
