from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distrain import cuda, multi_node
from distrain.errors import ArgumentError, DeviceError

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


@pytest.mark.mpi
def test_a_dataset_that_all_ranks_have_is_not_sent_and_one_that_cannot_be_is_an_error_on_all(
    run_ranks: Callable[..., Any],
) -> None:
    script = """
    from distrain import multi_node
    from distrain.errors import WorldError

    class Huge(list):
        def __reduce__(self):
            raise TypeError("this is not to be pickled")

    comm = multi_node.create_communicator("naive")
    data = Huge(range(7))
    part = multi_node.scatter_dataset(data, comm)
    assert sorted(set(sum(comm.allgather_obj(list(part)), []))) == list(range(7))
    try:
        multi_node.scatter_dataset(data if comm.rank == 1 else None, comm, root=1)
    except TypeError as error:
        assert comm.rank == 1 and "not to be pickled" in str(error), error
    except WorldError as error:
        assert comm.rank != 1 and "rank 1 (" in str(error), error
    else:
        raise AssertionError("no error")
    assert comm.bcast_obj(None, 1) is None
    print("passed", flush=True)
    """
    assert run_ranks(script, 3).check().stdout.count("passed") == 3


@pytest.mark.mpi
def test_a_multi_node_optimizer_is_the_optimizer(run_ranks: Callable[..., Any]) -> None:
    script = """
    import copy
    import numpy as np
    import distrain.functions as F
    import distrain.links as L
    from distrain import multi_node, optimizers
    comm = multi_node.create_communicator("naive")
    adam = optimizers.Adam(0.1)
    optimizer = multi_node.create_multi_node_optimizer(adam, comm)
    assert optimizer is adam and isinstance(optimizer, optimizers.Adam)
    assert copy.copy(optimizer).alpha == 0.1
    found = []
    for scale in (None, 1024.0):
        model = L.Linear(2, 1, initialW=1.0)
        copied = copy.copy(optimizer).setup(model)
        copied.set_loss_scale(scale) if scale else None
        for _ in range(3):
            copied.update(lambda: F.sum(model(np.full((1, 2), comm.rank + 1, np.float32)) ** 2))
        found.append(model.W.array.copy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    assert len(set(comm.allgather_obj(found[0].tobytes()))) == 1
    print("passed", flush=True)
    """
    assert run_ranks(script, 2).check().stdout.count("passed") == 2


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 3])
def test_all_names_give_a_communicator_that_works(run_ranks: Callable[..., Any], n: int) -> None:
    script = """
    import numpy as np
    import distrain.functions as F
    import distrain.links as L
    from distrain import multi_node, optimizers
    for name, kind in multi_node._NAMES.items():
        if name in ("nccl", "gpu-aware"):  # need a GPU
            continue
        ranks = multi_node.create_communicator(name)
        assert multi_node.create_communicator(name) is ranks
        assert ranks.kind == (kind if ranks.size > 1 else "local"), ranks.kind
        x = np.full(3, ranks.rank + 1.0)
        assert (ranks.allreduce(x) == ranks.size * (ranks.size + 1) / 2).all()
        assert (x == ranks.rank + 1).all()
    if ranks.size > 1:
        from mpi4py import MPI
        pair = MPI.COMM_WORLD.Split(min(ranks.rank, 1))
        some = multi_node.create_communicator("flat", pair)
        assert some.size == (1 if ranks.rank == 0 else ranks.size - 1)
        assert some.allreduce_obj(1) == some.size
    half = multi_node.create_communicator("pure_nccl", allreduce_grad_dtype=np.float16)
    assert half.allreduce_obj(1) == ranks.size
    model = L.Linear(1, 1, nobias=True, initialW=1)
    optimizer = optimizers.SGD(lr=1.0)
    multi_node.create_multi_node_optimizer(optimizer, half).setup(model)
    for _ in range(2):
        optimizer.update(lambda: F.sum(model(np.full((1, 1), 1 / 3, np.float32))))
    rounded = ranks.size * np.float32(np.float16(1 / 3 / ranks.size))
    expected = np.float32(1 / 3) if ranks.size == 1 else np.float32(np.float16(rounded))
    assert model.W.grad == expected, (model.W.grad, expected)
    assert ranks.allreduce_grad_dtype is None
    print("passed", flush=True)
    """
    assert run_ranks(script, n).check().stdout.count("passed") == n


@pytest.mark.mpi
def test_the_variable_decides_whatever_the_name_is(run_ranks: Callable[..., Any]) -> None:
    script = """
    from distrain import comm, multi_node
    assert comm.world().kind == "hierarchical"
    assert multi_node.create_communicator("pure_nccl") is comm.world()
    assert comm.world().split(0).kind == "hierarchical"
    print("passed", flush=True)
    """
    env = {"DISTRAIN_COMM": "hierarchical"}
    assert run_ranks(script, 2, env=env).check().stdout.count("passed") == 2


@pytest.mark.skipif(cuda.available, reason="this machine has a GPU and CuPy")
@pytest.mark.parametrize("name", ["nccl", "gpu-aware"])
def test_what_needs_a_gpu_is_refused_without(name: str) -> None:
    with pytest.raises(DeviceError, match="a GPU was asked for"):
        multi_node.create_communicator(name)


def test_an_unknown_communicator_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no communicator 'carrier_pigeon'; there are pure_nccl"):
        multi_node.create_communicator("carrier_pigeon")
