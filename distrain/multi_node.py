"""ChainerMN's names, with ChainerMN's meaning: each rank has a dataset and a batch of its own.

    comm = distrain.multi_node.create_communicator()
    train = distrain.multi_node.scatter_dataset(train, comm, shuffle=True)
    optimizer = distrain.multi_node.create_multi_node_optimizer(distrain.optimizers.Adam(), comm)
    evaluator = distrain.multi_node.create_multi_node_evaluator(evaluator, comm)

A script that uses none of these trains on many ranks just as well: there, a minibatch is one of the whole job.
"""

from __future__ import annotations

import copy
import os
from typing import Any, TypeVar

import numpy as np

from distrain import comm as comm_module
from distrain import rng
from distrain.comm import Communicator, MpiCommunicator
from distrain.comm.kinds import VARIABLE, Kind, checked_kind, chosen_kind
from distrain.dataset.sharding import share
from distrain.datasets import SubDataset
from distrain.errors import ArgumentError, WorldError
from distrain.iterators import SerialIterator
from distrain.optimizers import GradientMethod, Optimizer
from distrain.optimizers.exchange_plan import checked_settings
from distrain.training.extensions import Evaluator

_NAMES: dict[str, Kind] = {
    "pure_nccl": "auto",
    "flat": "auto",
    "naive": "mpi",
    "hierarchical": "hierarchical",
    "two_dimensional": "hierarchical",
    "single_node": "hierarchical",
    "non_cuda_aware": "staged",
    "dummy": "auto",
    "auto": "auto",
    "mpi": "mpi",
    "staged": "staged",
    "nccl": "nccl",
    "gpu-aware": "gpu-aware",
}

_made: dict[Kind, Communicator] = {}  # of all ranks of the job

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)
AnyEvaluator = TypeVar("AnyEvaluator", bound=Evaluator)


def create_communicator(
    communicator_name: str = "pure_nccl",
    mpi_comm: Any = None,
    *,
    allreduce_grad_dtype: Any = None,
    batched_copy: bool = True,
) -> Communicator:
    """The communicator of all ranks of the job, with the methods of ChainerMN's.

    Gradients lie in one flat array, which is summed in place. Names stand for the way that the sums go, which the
    attribute `kind` of the result tells:

        "auto", "pure_nccl", "flat"                       NCCL where it works on all ranks, else MPI
        "mpi", "naive"                                    MPI, always through host memory
        "staged", "non_cuda_aware"                        the same
        "hierarchical", "two_dimensional", "single_node"  through shared memory inside a node; GPUs as with "auto"
        "nccl"                                            NCCL, or an error
        "gpu-aware"                                       MPI, which takes memory of GPUs, or an error

    "single_node" also checks that there is one node. "dummy", with which ChainerMN measured how long a step takes
    without communication, exchanges gradients like "auto". If the variable DISTRAIN_COMM is set, it decides, whatever
    the name is. A collective call.

    Args:
        communicator_name: one of these names.
        mpi_comm: an `mpi4py.MPI.Intracomm` of the ranks to use; None is all ranks of the job.
        allreduce_grad_dtype: the dtype in which optimizers that are set up with this communicator send gradients, such
            as float16 or "bfloat16", which halves what is sent; None: the gradients' own.
        batched_copy: changes nothing; see `Communicator.set_config`.

    Raises:
        ArgumentError: another name.
        DeviceError: "nccl" or "gpu-aware", and this process has no CuPy or GPU, or no NCCL.
        WorldError: "single_node" on several nodes, or the ranks of a node cannot share memory.
    """
    if communicator_name not in _NAMES:
        raise ArgumentError(f"there is no communicator {communicator_name!r}; there are {', '.join(_NAMES)}")
    kind = chosen_kind() if os.environ.get(VARIABLE) else checked_kind(_NAMES[communicator_name])
    comm = comm_module.world()
    if isinstance(comm, MpiCommunicator):
        comm = _of_world(comm, kind) if mpi_comm is None else MpiCommunicator(mpi_comm.Dup(), kind)
    if communicator_name == "single_node" and comm.inter_size > 1:
        raise WorldError(
            f"create_communicator('single_node'): the ranks are on {comm.inter_size} nodes. Use 'flat', or start all "
            "ranks on one node."
        )
    if allreduce_grad_dtype is not None:
        comm = copy.copy(comm)  # the same ranks and channel; the world's own optimizers go on as they were
        comm.allreduce_grad_dtype = checked_settings("auto", 1, allreduce_grad_dtype).dtype
    return comm


def _of_world(world: MpiCommunicator, kind: Kind) -> Communicator:
    if kind == world.kind:
        return world
    if kind not in _made:
        _made[kind] = MpiCommunicator(world.mpi_comm.Dup(), kind)
    return _made[kind]


class ScatteredDataset(SubDataset):
    """One rank's part of a dataset. Iterators over it share nothing with other ranks.

    Attributes:
        n_own: number of its examples that no other rank has; the others, at the end, were added to make all parts
            equally long.
    """

    is_scattered = True

    def __init__(self, dataset: Any, start: int, finish: int, order: Any, n_own: int) -> None:
        super().__init__(dataset, start, finish, order)
        self.n_own = n_own

    def own(self) -> ScatteredDataset:
        """The part without the added examples."""
        return ScatteredDataset(self._dataset, self._start, self._start + self.n_own, self._order, self.n_own)


def scatter_dataset(
    dataset: Any,
    comm: Communicator,
    root: int = 0,
    shuffle: bool = False,
    seed: int | None = None,
    *,
    force_equal_length: bool = True,
) -> ScatteredDataset:
    """Gives each rank a part of a dataset. A collective call.

    Args:
        dataset: the whole, on the root. Ranks that have it too (the usual case: a file that all can read) pass it,
            and nothing is sent; ranks that pass None get the root's, pickled.
        comm: the ranks.
        root: the rank whose dataset counts.
        shuffle: deal the examples in a random order.
        seed: of that order; the job's seed if None.
        force_equal_length: let parts that would be one example shorter begin again with their first example.

    Raises:
        ArgumentError: the root has no dataset.
    """
    lengths = comm.allgather_obj(None if dataset is None else len(dataset))
    length = lengths[root]
    if length is None:
        raise ArgumentError(f"rank {root} is the root of scatter_dataset, but has no dataset")
    if any(other != length for other in lengths):
        sent = comm.bcast_obj(dataset, root)
        dataset = sent if dataset is None or len(dataset) != length else dataset
    generator = rng.stream("scatter") if seed is None else np.random.Generator(np.random.Philox(seed))
    order = generator.permutation(length) if shuffle else np.arange(length)
    start, stop = share(length, comm.rank, comm.size)
    own = order[start:stop]
    longest = -(-length // comm.size)
    if force_equal_length and len(own) < longest:
        own = np.append(own, own[:1] if len(own) else order[:1])
    rest = np.setdiff1d(np.arange(length), own)  # SubDataset takes an order of the whole dataset
    return ScatteredDataset(dataset, 0, len(own), np.concatenate([own, rest])[:length], stop - start)


def create_empty_dataset(dataset: Any) -> Any:
    """A dataset of that length whose examples are empty tuples, for ranks whose model takes no input."""
    return [()] * len(dataset)


def create_multi_node_optimizer(
    actual_optimizer: AnyOptimizer, communicator: Communicator, double_buffering: bool = False, zero_fill: bool = True
) -> AnyOptimizer:
    """Makes an optimizer train together with the ranks of a communicator.

    Args:
        actual_optimizer: the optimizer; it is changed and returned.
        communicator: the ranks.
        double_buffering: gradients are summed while the next step computes, and each update uses those of the step
            before: `optimizer.use_exchange("double")`.
        zero_fill: parameters without gradient count as zeros where other ranks have one; always so.

    Raises:
        ArgumentError: double buffering of an optimizer that does not follow gradients.
    """
    if double_buffering:
        if not isinstance(actual_optimizer, GradientMethod):
            raise ArgumentError(f"{type(actual_optimizer).__name__} exchanges no gradients that could be buffered")
        actual_optimizer.use_exchange("double")
    actual_optimizer._comm = communicator
    return actual_optimizer


def create_multi_node_evaluator(actual_evaluator: AnyEvaluator, communicator: Communicator) -> AnyEvaluator:
    """Makes an evaluator add up the results of the ranks of a communicator.

    Each example counts once, also where `scatter_dataset` added some to make the parts equally long.

    Args:
        actual_evaluator: the evaluator; it is changed and returned.
        communicator: the ranks.
    """
    actual_evaluator.comm = communicator
    for name, iterator in actual_evaluator.get_all_iterators().items():
        dataset = iterator.dataset
        if isinstance(dataset, ScatteredDataset) and isinstance(iterator, SerialIterator):
            own = dataset.own()  # empty where there are fewer examples than ranks
            once: Any = SerialIterator(own, iterator.batch_size, repeat=False, shuffle=False) if len(own) else []
            actual_evaluator._iterators[name] = once
    return actual_evaluator
