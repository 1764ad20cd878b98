"""An extension that evaluates the model on a validation set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from distrain import comm as comm_module
from distrain import minibatch, reproducible
from distrain.comm import Communicator
from distrain.config import no_backprop_mode, using_config
from distrain.dataset import concat_examples
from distrain.dataset.sharding import rank_shards
from distrain.errors import ArgumentError, WorldError
from distrain.iterators import NoShuffleOrderSampler, ShuffleOrderSampler
from distrain.optimizers.parts import part_of
from distrain.reporting import DictSummary, Reporter, report, report_scope
from distrain.training.extension import PRIORITY_WRITER, Extension, RunsOn
from distrain.training.persistents import average_over_ranks
from distrain.training.updaters.standard import by_name

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class Evaluator(Extension):
    """Reports the means of everything that the model reports on a validation set: `validation/main/loss` …

        trainer.extend(extensions.Evaluator(test_iter, model))
        extensions.Evaluator(test_iter, model)()    # {"main/loss": …}, without a trainer

    Every sample counts once, on any number of ranks: each evaluates its share of the minibatches, the sums are added
    in the order of the ranks, and all ranks get the same means. The number of samples is checked.

    Before an evaluation on several ranks, floating persistent values of the models (running statistics) are replaced
    by their means over the ranks.

    Args:
        iterator: the minibatches, made with `repeat=False`; or a dict of iterators, "main" among them.
        target: the model, or a dict of models.
        converter: see `StandardUpdater`.
        device: where the arrays are sent; None leaves them where they are.
        eval_hook: called with the evaluator before each evaluation.
        eval_func: called with the arrays of a minibatch, to report something; the model "main" by default.

    Attributes:
        name: what the names of the values begin with; "validation" unless `extend` is given another.
        comm: the ranks that evaluate together; None is those of the trainer, or the job's world.

    Raises:
        ArgumentError: an iterator that never ends, or none called "main".
    """

    trigger = (1, "epoch")
    priority = PRIORITY_WRITER
    runs_on: RunsOn = "all"
    comm: Communicator | None = None

    def __init__(
        self,
        iterator: Any,
        target: Any,
        converter: Callable[..., Any] = concat_examples,
        device: Any = None,
        eval_hook: Callable[[Evaluator], Any] | None = None,
        eval_func: Callable[..., Any] | None = None,
    ) -> None:
        self._iterators = by_name(iterator, "iterator")
        self._targets = by_name(target, "model")
        for name, one in self._iterators.items():
            if getattr(one, "repeat", False) is True:
                raise ArgumentError(f"the iterator {name!r} of an Evaluator never ends; make it with repeat=False")
        self.converter = converter
        self.device = device
        self.eval_hook = eval_hook
        self.eval_func = eval_func

    @property
    def default_name(self) -> str:
        """The name if none is given."""
        return "validation"

    def initialize(self, trainer: Trainer) -> None:
        """Takes the trainer's ranks, unless it has its own."""
        if self.comm is None:
            self.comm = trainer.comm

    def __call__(self, trainer: Trainer | None = None) -> dict[str, float]:
        """Evaluates, and reports the means to the current reporter.

        Returns:
            The means by name.
        """
        reporter = Reporter()
        prefix = f"{self.name}/" if self.name else ""
        for name, target in self._targets.items():
            reporter.add_observer(prefix + name, target)
            reporter.add_observers(prefix + name, target.namedlinks(skipself=True))
        share = minibatch.current()
        try:
            with reporter:
                result = self.evaluate()
        finally:
            minibatch.announce(share)  # what follows still belongs to the training's minibatch
        report(result)
        return result

    def evaluate(self) -> dict[str, float]:
        """One pass over the validation set; override it to evaluate in another way.

        Returns:
            The means by name, the same on all ranks.

        Raises:
            WorldError: the ranks have not seen each sample once.
        """
        comm = self.comm or comm_module.world()
        summaries: dict[int, DictSummary] = {}
        counter = Counter(self._iterators["main"])
        for piece in self.run_through(comm, self.eval_func or self._targets["main"], counter):
            summaries.setdefault(piece.shard, DictSummary()).add(piece.observation, piece.samples)
        sums = [summary.sums() for _, summary in sorted(summaries.items())]
        parts = comm.allgather_obj((sums, counter.seen, counter.expected, counter.is_shared))
        require_all(comm, [part[1:] for part in parts])
        merged = DictSummary()
        for part in parts:
            for some in part[0]:
                merged.merge(some)
        return merged.compute_mean()

    def run_through(self, comm: Communicator, function: Callable[..., Any], counter: Counter) -> Iterator[Piece]:
        """Calls a function with the arrays of each minibatch that this rank has a part of; a collective call.

        Args:
            comm: the ranks that evaluate together.
            function: what to call.
            counter: counts the samples.
        """
        for target in self._targets.values():
            average_over_ranks(target, comm)
        if self.eval_hook:
            self.eval_hook(self)
        with using_config("train", False), no_backprop_mode():
            for number, batch in enumerate(_from_the_start(self._iterators["main"])):
                samples = counter.count(batch)
                every = self.converter(batch, self.device)
                for shard, count, arrays in _cut(comm, getattr(batch, "share", None), every, samples):
                    observation: dict[str, Any] = {}
                    with report_scope(observation):
                        if isinstance(arrays, tuple):
                            returned = function(*arrays)
                        elif isinstance(arrays, dict):
                            returned = function(**arrays)
                        else:
                            returned = function(arrays)
                    yield Piece(number, shard, count, observation, returned)

    def get_iterator(self, name: str) -> Any:
        """The iterator of that name."""
        return self._iterators[name]

    def get_all_iterators(self) -> dict[str, Any]:
        """All iterators by name."""
        return dict(self._iterators)

    def get_target(self, name: str) -> Any:
        """The model of that name."""
        return self._targets[name]

    def get_all_targets(self) -> dict[str, Any]:
        """All models by name."""
        return dict(self._targets)

    def finalize(self) -> None:
        """Ends what the iterators have started."""
        for iterator in self._iterators.values():
            if hasattr(iterator, "finalize"):
                iterator.finalize()


class Piece(NamedTuple):
    """What was evaluated at once.

    Attributes:
        batch: number of the minibatch, from 0.
        shard: number of the shard, in reproducible mode; else 0.
        samples: how many; 0 where the rank has none and gets a stand-in.
        observation: what was reported.
        returned: by the function.
    """

    batch: int
    shard: int
    samples: int
    observation: dict[str, Any]
    returned: Any


class Counter:
    """Counts the samples of one rank, and knows how many there should be.

    Attributes:
        seen: samples that this rank has evaluated.
        is_shared: whether other ranks had a part of a minibatch; where no rank says so, each has a dataset of its own.
    """

    def __init__(self, iterator: Any) -> None:
        self.seen = 0
        self.is_shared = False
        self._announced = 0
        dataset: Any = getattr(iterator, "dataset", None)
        sampler = getattr(iterator, "order_sampler", None)
        knows = sampler is None or type(sampler) in (ShuffleOrderSampler, NoShuffleOrderSampler)
        self._length: int | None = len(dataset) if knows and hasattr(dataset, "__len__") else None

    def count(self, batch: Any) -> int:
        """Counts a batch; returns the number of its samples, 0 where a rank has none and gets a stand-in."""
        share = getattr(batch, "share", None)
        if share is None:
            number = len(batch)
            self._announced += number
        else:
            number = share.count
            self.is_shared = self.is_shared or number != share.total
            self._announced += share.total
        self.seen += number
        return number

    @property
    def expected(self) -> int:
        """How many there should be, of all ranks if they share minibatches."""
        return self._announced if self._length is None else self._length


def _from_the_start(iterator: Any) -> Any:
    if hasattr(iterator, "reset"):
        iterator.reset()
        return iterator
    return copy.copy(iterator)


def _cut(
    comm: Communicator, share: minibatch.Share | None, arrays: Any, samples: int
) -> Iterator[tuple[int, int, Any]]:
    """Number, samples and arrays of what is evaluated at once: in reproducible mode a shard, else all of it."""
    if share is None or not samples or not reproducible.shards():
        yield 0, samples, arrays
        return
    for shard, start, stop in rank_shards(share.total, comm.rank, comm.size):
        if stop > start:
            yield shard, stop - start, part_of(arrays, start - share.start, stop - share.start, samples)


def require_all(comm: Communicator, counts: Sequence[tuple[int, int, bool]]) -> bool:
    """Checks that the ranks have seen each sample once; returns whether they share the minibatches.

    Args:
        comm: the ranks.
        counts: what the `Counter` of each rank says: `seen`, `expected` and `is_shared`.

    Raises:
        WorldError: they have not.
    """
    seen = sum(count[0] for count in counts)
    lengths = [count[1] for count in counts]
    is_shared = any(count[2] for count in counts)
    expected = lengths[0] if is_shared else sum(lengths)
    if seen != expected or (is_shared and len(set(lengths)) > 1):
        each = ", ".join(f"rank {rank}: {count[0]} of {count[1]}" for rank, count in enumerate(counts))
        raise WorldError(
            f"the evaluation has seen {seen} samples where there are {expected} ({each}). Register the Evaluator "
            "on every rank, with the same dataset; or give its iterator comm=distrain.comm.local()."
        )
    return is_shared
