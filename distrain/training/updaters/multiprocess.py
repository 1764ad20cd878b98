"""One process for each device."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distrain import backend, reproducible, rng
from distrain.dataset import concat_examples
from distrain.env import rank_info
from distrain.errors import ArgumentError, WorkerError
from distrain.reporting import DictSummary, Reporter, report
from distrain.training.updaters.messages import Step, switches
from distrain.training.updaters.nccl_gradients import NcclGradients, may_meet, meet
from distrain.training.updaters.shared import SharedArrays
from distrain.training.updaters.standard import StandardUpdater
from distrain.training.updaters.worker import Cargo, gradients, load, reporter_of, save
from distrain.training.updaters.workers import Workers

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class MultiprocessParallelUpdater(StandardUpdater):
    """Trains on several devices of this machine, each in a process of its own, without launcher or MPI.

        parts = distrain.datasets.split_dataset_n_random(train, 2)
        iterators = [MultiprocessIterator(part, 64) for part in parts]
        updater = MultiprocessParallelUpdater(iterators, optimizer, devices=(0, 1))

    This process works on the first device. The others start at the first step, with copies of model and iterators as
    they are then. In each step every device takes a minibatch of its own iterator; this process averages the gradients,
    each weighted by its number of samples, and updates the parameters. So the step is that of one minibatch made of all
    of theirs, with the learning rate as it is given. All devices begin the next step with the same parameters. Reports
    are averaged likewise. Persistent values, such as running statistics, are those of this process.

    Gradients and parameters go through shared memory; those on GPUs are copied to the host and back. Gradients on
    several GPUs, no two the same, are summed by NCCL, unless it does not start (a warning says why) or the variable
    DISTRAIN_COMM says "staged", "mpi" or "gpu-aware".

    The processes end with `finalize`, which a trainer calls, and with this process, however that ends.

    Args:
        iterators: one a device. The first counts the epochs.
        optimizer: see `StandardUpdater`. It stays in this process.
        converter: see `StandardUpdater`.
        devices: a dict of devices, "main" among them, which is the first; or a sequence of them.
        auto_new_epoch: see `StandardUpdater`.

    Raises:
        ArgumentError: it cannot run here, no devices, not as many iterators, no "main", several ranks, several
            optimizers, or one set up with `accumulate`.
    """

    def __init__(
        self,
        iterators: Sequence[Any],
        optimizer: Any,
        converter: Callable[..., Any] = concat_examples,
        devices: Mapping[str, Any] | Sequence[Any] | None = None,
        auto_new_epoch: bool = True,
    ) -> None:
        if not self.available():
            raise ArgumentError(
                "MultiprocessParallelUpdater needs Linux, and a script that runs as one process. On several ranks use "
                "StandardUpdater, which trains on all of them."
            )
        names, specs = _in_order(devices)
        iterators = list(iterators)
        if len(iterators) != len(specs) or len({id(iterator) for iterator in iterators}) != len(specs):
            raise ArgumentError(
                f"{len(specs)} devices need as many different iterators, not {len({id(i) for i in iterators})}: split "
                "the dataset with split_dataset_n_random, and make an iterator of each part"
            )
        self._device, *_ = [backend.get_device(spec) for spec in specs]
        super().__init__(iterators[0], optimizer, converter, specs[0], None, None, auto_new_epoch)
        if len(self._optimizers) > 1:
            raise ArgumentError(
                "MultiprocessParallelUpdater trains with one optimizer, called 'main'; the names are "
                f"{', '.join(map(repr, self._optimizers))}"
            )
        if getattr(self._optimizers["main"], "accumulate", 1) != 1:
            raise ArgumentError("MultiprocessParallelUpdater works through a minibatch at once; set accumulate to 1")
        self._specs = specs
        self._others = dict(zip(names[1:], iterators[1:], strict=True))  # where the workers' iterators were last known
        self._workers: Workers | None = None
        self._stop: Callable[[], Any] | None = None
        self._shared: SharedArrays | None = None
        self._sums: NcclGradients | None = None
        self._problem: str | None = None
        self._report_to(Reporter())

    @staticmethod
    def available() -> bool:
        """Whether it can run here: on Linux, in a script that was not started as several ranks."""
        return hasattr(os, "memfd_create") and hasattr(os, "pidfd_open") and rank_info().size == 1

    def connect_trainer(self, trainer: Trainer) -> None:
        """Lets the model report to the trainer."""
        self._report_to(trainer.reporter)

    def _report_to(self, reporter: Reporter) -> None:
        self._reporter = reporter_of(self._optimizers["main"].target, reporter)

    def update_core(self) -> None:
        """One step of all devices.

        Raises:
            WorkerError: a worker was killed, or raised an exception, which is told with its traceback.
            ArgumentError: in reproducible mode, which this updater does not have.
        """
        if reproducible.shards():
            raise ArgumentError("reproducible mode needs StandardUpdater; start the script with `distrain run`")
        self._check()
        optimizer = self._optimizers["main"]
        model = optimizer.target
        iterator = self._iterators["main"]
        batch = next(iterator)
        step = Step(self.iteration, switches(), getattr(optimizer, "loss_scale", None))
        if self._workers is None:  # as the first step finds it: the forward pass may leave something in it
            copy = model.copy("copy")
        can_start = self._workers is not None or all(param.is_initialized for param in model.params())
        if can_start:  # the workers work while this process does
            workers = self._workers or self._start(copy)
            workers.order(step)
        with self._device:
            arrays = self.converter(batch, self._specs[0])
            observation = gradients(model, arrays, self._reporter, step.loss_scale)
            if not can_start:  # now the parameters have their sizes
                workers = self._workers or self._start(copy)
                workers.order(step)
            self._add_up(workers, len(batch), observation)
            optimizer.update()
        if self.auto_new_epoch and iterator.is_new_epoch:
            optimizer.new_epoch(auto=True)

    def _start(self, copy: Any) -> Workers:
        """Starts the workers, with a copy of the model; their iterators are theirs from then on."""
        model = self._optimizers["main"].target
        try:
            shared = SharedArrays(model, len(self._specs))
        except OSError as error:
            raise WorkerError(f"there is too little shared memory for the gradients of the devices: {error}") from error
        copy.copyparams(model, copy_persistent=False)
        copy.cleargrads()
        copy.to_device(backend.CPU)
        others = list(self._others.values())
        workers = Workers(Cargo(copy, [None, *others], self.converter, self._specs, rng.seed()), shared)
        self._stop = weakref.finalize(self, workers.close)
        _finalize(others)  # theirs go on in copies
        self._workers, self._shared = workers, shared
        if may_meet(self._specs):
            self._sums, reason = meet(shared, workers.meet(), self._specs[0], workers.look)
            if self._sums is None:
                warnings.warn(f"{reason} Gradients go through host memory.", stacklevel=2)
        return workers

    def _add_up(self, workers: Workers, count: int, observation: dict[str, Any]) -> None:
        """Sums gradients and reports of all devices."""
        shared = self._shared
        assert shared is not None
        if self._sums is None:
            shared.write_gradients(0)
        else:
            shared.write_flags(0)
        summary = DictSummary()
        summary.add(observation, count)
        answers = workers.answers()
        for answer in answers:
            summary.merge(answer.reports)
        counts = [count, *[answer.count for answer in answers]]
        weights = [n / sum(counts) for n in counts]
        if self._sums is None:
            shared.sum_gradients(weights)
        else:
            workers.sum(weights[1:])
            self._sums.sum(weights[0])
            workers.summed()
            self._sums.give()
        report(summary.compute_mean())

    def _check(self) -> None:
        if self._problem is not None:
            raise WorkerError(self._problem)

    def finalize(self) -> None:
        """Ends the workers, and what the iterators have started. Where the iterators were is still known afterwards."""
        workers, self._workers, self._shared = self._workers, None, None
        sums, self._sums = self._sums, None
        if sums is not None:
            sums.abort()
        if workers is not None and self._stop is not None:
            states = workers.last_states()
            self._stop()
            if states is None:
                self._problem = workers.problem or "the workers were ended in the middle of a step"
                self._problem += "\nThe places of their iterators are lost; make a new updater and load a snapshot."
            else:
                self._keep(states)
        _finalize(self._others.values())
        super().finalize()

    def _keep(self, states: list[bytes]) -> None:
        for iterator, state in zip(self._others.values(), states, strict=True):
            load(iterator, state)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the state of all iterators, the model and the optimizer, and the number of steps.

        A file without the iterators of the other devices, such as Chainer's, leaves these as they are, with a warning.
        """
        self._check()
        if self._workers is not None:
            self._keep(self._workers.states())
        super().serialize(serializer)
        lenient = serializer.lenient()
        for name, iterator in self._others.items():
            iterator.serialize(lenient["iterator:" + name])
        if self._workers is not None and not serializer.is_writer:
            self._workers.load([save(iterator) for iterator in self._others.values()])


def _in_order(devices: Mapping[str, Any] | Sequence[Any] | None) -> tuple[list[str], list[Any]]:
    """Names and devices, the main one first."""
    if not devices or isinstance(devices, str):
        raise ArgumentError(
            "MultiprocessParallelUpdater needs devices=(0, 1, …) or devices={'main': 0, 'second': 1, …}"
        )
    if not isinstance(devices, Mapping):
        return ["main", *[str(i) for i in range(1, len(devices))]], list(devices)
    if "main" not in devices:
        raise ArgumentError(f"one device must be called 'main'; the names are {', '.join(map(repr, devices))}")
    names = ["main", *[name for name in devices if name != "main"]]
    return names, [devices[name] for name in names]


def _finalize(iterators: Any) -> None:
    for iterator in iterators:
        if hasattr(iterator, "finalize"):
            iterator.finalize()
