from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distrain import multi_node
from distrain.errors import ArgumentError

SCRIPT = """
import numpy as np
import distrain
from distrain import multi_node, reporting
from distrain.iterators import SerialIterator
from distrain.training.extensions import Evaluator

comm = multi_node.create_communicator("naive")
whole = [np.float32(i) for i in range(5)] if comm.rank == 0 else None

class Model(distrain.Link):
    def forward(self, x):
        reporting.report({"value": float(np.mean(x))}, self)

for equal in (True, False):
    part = multi_node.scatter_dataset(whole, comm, shuffle=True, force_equal_length=equal)
    assert sum(comm.allgather_obj(part.n_own)) == 5
    evaluator = Evaluator(SerialIterator(part, 2, repeat=False, shuffle=False), Model())
    evaluator = multi_node.create_multi_node_evaluator(evaluator, comm)
    assert evaluator()["main/value"] == 2.0, evaluator()
assert multi_node.create_empty_dataset([1, 2]) == [(), ()]
print("passed", flush=True)
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n", [2, 3])
def test_a_scattered_dataset_is_evaluated_exactly(run_ranks: Callable[..., Any], n: int) -> None:
    assert run_ranks(SCRIPT, n).check().stdout.count("passed") == n


def test_an_unknown_communicator_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no communicator 'carrier_pigeon'; there are pure_nccl"):
        multi_node.create_communicator("carrier_pigeon")
