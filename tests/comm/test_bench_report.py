from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from distrain.comm import cost
from distrain.comm.bench_report import RANKS, Result, Timing, Workload, as_json, lines, link_from, predict
from distrain.comm.cost import Link
from distrain.errors import ArgumentError

SIZES = [1024, 65536, 10**6]
BETWEEN = Link(1e-4, 1e-9)


def result(ranks: int = 2, nodes: int = 1) -> Result:
    """Of a machine that follows the model: 20 µs, and 2 GB/s."""
    timings = [Timing(n, 2e-5 + n * 5e-10, 4e-5 + n * 5e-10, 3.2e-5 + n * 4e-10, 1.6e-5 + n * 4e-10) for n in SIZES]
    line = cost.fit(SIZES, [one.exchange_s for one in timings])
    return Result(ranks, nodes, "MPICH 5", "auto", 7, timings, line, cost.link_of(line, ranks))


def test_prediction() -> None:
    made = predict(result(), Workload(10**6, 0.01), BETWEEN, 4)
    assert made.measured.seconds == pytest.approx(0.01 + 2e-5 + 5e-4)
    assert made.measured.efficiency == pytest.approx(0.01 / made.measured.seconds)
    assert made.ranks == RANKS == tuple(2**i for i in range(1, 13))
    assert made.cluster.ranks_per_node == 4
    assert made.cluster.between == BETWEEN
    assert made.steps[0]["doubling"].seconds == pytest.approx(made.measured.seconds)
    assert not made.is_alike
    alike = predict(result(), Workload(10**6, 0.01), None, 4)
    assert alike.is_alike
    assert alike.cluster.between == alike.cluster.within


MEASURED = """\
2 ranks on 1 node, MPICH 5, DISTRAIN_COMM=auto; sums of float32, median of 7 rounds, the slowest rank of each
   size  exchange  bus bandwidth  / raw  allreduce  / raw  hierarchical  / raw  raw MPI
  1 KiB   20.5 µs      49.9 MB/s   1.25    40.5 µs   2.47       32.4 µs   1.98  16.4 µs
 64 KiB   52.8 µs      1.24 GB/s   1.25    72.8 µs   1.72       58.2 µs   1.38  42.2 µs
1.00 MB    520 µs      1.92 GB/s   1.25     540 µs   1.30        432 µs   1.04   416 µs
exchange = 20.0 µs + bytes / (2.00 GB/s); largest relative error of this fit: 0%, at """


def test_what_was_measured_in_words() -> None:
    shown = "\n".join(lines(result(), None))
    assert shown.startswith(MEASURED)
    assert shown.endswith("α = 20.0 µs a message, β = 0.500 ns a byte")


def test_a_poor_fit_is_called_one() -> None:
    found = result()
    assert not any("poorly" in line for line in lines(found, None))
    assert any("poorly" in line for line in lines(replace(found, line=cost.fit([4, 8, 12], [1.0, 9.0, 1.0])), None))


def test_what_is_predicted_in_words() -> None:
    shown = list(lines(result(), predict(result(), Workload(10**6, 0.01), BETWEEN, 4)))
    start = shown.index("") + 1
    assert shown[start : start + 5] == [
        "A step of 10.0 ms on one rank, with 1.00 MB of gradients. On 2 ranks, with the exchange as measured: 10.5 ms, "
        "95%.",
        "Predicted step and efficiency; 4 ranks a node; between nodes α = 100 µs, β = 1.00 ns a byte:",
        "ranks     ring       doubling          tree       hierarchical",
        "    2  10.5 ms  95%   10.5 ms  95%  11.0 ms  91%       10.5 ms  95%",
        "    4  10.9 ms  92%   11.0 ms  91%  12.1 ms  83%       10.9 ms  92%",
    ]
    assert [line.split()[0] for line in shown[start + 3 : -1]] == [str(p) for p in RANKS]
    assert "stragglers" in shown[-1]
    alike = "\n".join(lines(result(), predict(result(), Workload(10**6, 0.01), None, 1)))
    assert "1 rank a node; between nodes as measured here (--between gives others):" in alike


def test_a_link_between_nodes_comes_from_an_earlier_run(tmp_path: Path) -> None:
    found = result(nodes=2)
    path = tmp_path / "between.json"
    path.write_text(json.dumps(as_json(found, predict(found, Workload(10**6, 0.01), None, 1))))
    assert link_from(str(path)) == found.link
    content = json.loads(path.read_text())
    assert content["timings"][1]["nbytes"] == 65536
    assert content["prediction"]["steps"][0]["ring"]["efficiency"] < 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        ("[]", "not written by"),
        ("{", "not written by"),
        ('{"nodes": 2, "link": {"alpha_s": 1}}', "beta_s"),
        ('{"nodes": 2, "link": {"alpha_s": -1, "beta_s": 0}}', "0 or more, not -1.0 and 0.0"),
        ('{"nodes": 2, "link": {"alpha_s": NaN, "beta_s": 0}}', "0 or more"),
        ('{"nodes": 1, "link": {"alpha_s": 1, "beta_s": 0}}', "on one node"),
    ],
)
def test_files_that_say_nothing_about_links_between_nodes(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "between.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ArgumentError, match=words) as caught:
        link_from(str(path))
    assert str(path) in str(caught.value)
