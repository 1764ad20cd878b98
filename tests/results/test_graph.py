from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distrain.results.graph import to_svg


def test_without_graphviz_there_is_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert to_svg("digraph {}") == (None, "Install Graphviz to see the graph as a picture here.")


@pytest.mark.skipif(shutil.which("dot") is None, reason="there is no dot on PATH: apt-get install graphviz")
def test_graphviz_draws_the_graph_or_says_why_not() -> None:
    svg, note = to_svg('digraph { a -> b [label="ü"] }')
    assert svg is not None
    assert b"</svg>" in svg
    assert note == ""
    svg, note = to_svg("digraph { a -> ")
    assert svg is None
    assert "syntax error" in note
