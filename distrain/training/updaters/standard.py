"""The updater for ordinary supervised training; the base of users' own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from distrain.dataset import concat_examples
from distrain.errors import ArgumentError
from distrain.training.updater import Updater

if TYPE_CHECKING:
    from distrain.comm import Communicator
    from distrain.training.trainer import Trainer


class StandardUpdater(Updater):
    """Takes a minibatch, computes the loss, updates the parameters.

        updater = StandardUpdater(train_iter, optimizer, device=args.gpu)

    On several ranks each works on its share of the minibatch, and the optimizer sums the gradients. To train in
    another way, override `update_core`.

    Args:
        iterator: the minibatches, or a dict of iterators; the one called "main" counts the epochs.
        optimizer: what updates the model, or a dict of optimizers, each with its own model.
        converter: makes arrays of a list of examples: `converter(batch, device)`.
        device: where the models are moved and the arrays sent, as `distrain.get_device` takes it; None leaves both
            where they are.
        loss_func: gives the loss of the arrays; the model of the optimizer "main" by default.
        loss_scale: factor on the initial gradients, against underflow in float16; divided away before the update.
        auto_new_epoch: whether `Optimizer.new_epoch` is called at the end of each epoch.
        input_device: where the arrays are sent, if not to `device`.

    Attributes:
        converter, device, loss_func, auto_new_epoch, input_device: as given.
        iteration: number of steps so far.

    Raises:
        ArgumentError: no iterator or optimizer is called "main", or an optimizer has no model yet.
    """

    def __init__(
        self,
        iterator: Any,
        optimizer: Any,
        converter: Callable[..., Any] = concat_examples,
        device: Any = None,
        loss_func: Callable[..., Any] | None = None,
        loss_scale: float | None = None,
        auto_new_epoch: bool = True,
        *,
        input_device: Any = None,
    ) -> None:
        self._iterators = by_name(iterator, "iterator")
        self._optimizers = by_name(optimizer, "optimizer")
        for name, one in self._optimizers.items():
            if getattr(one, "target", None) is None:
                raise ArgumentError(f"the optimizer {name!r} has no model; call optimizer.setup(model) first")
            if device is not None:
                one.target.to_device(device)
            if loss_scale is not None:
                one.set_loss_scale(loss_scale)
        self.converter = converter
        self.device = device
        self.input_device = device if input_device is None else input_device
        self.loss_func = loss_func
        self.auto_new_epoch = auto_new_epoch
        self.iteration = 0

    @property
    def comm(self) -> Communicator | None:  # type: ignore[override]
        """The ranks that train together; None is the job's world."""
        return getattr(self._optimizers["main"], "comm", None)

    @property
    def epoch(self) -> int:
        """Number of epochs that are complete."""
        return self._iterators["main"].epoch  # type: ignore[no-any-return]

    @property
    def epoch_detail(self) -> float:
        """Epochs as a fraction."""
        return self._iterators["main"].epoch_detail  # type: ignore[no-any-return]

    @property
    def previous_epoch_detail(self) -> float | None:
        """`epoch_detail` before the last step; None before the first."""
        return self._iterators["main"].previous_epoch_detail  # type: ignore[no-any-return]

    @property
    def is_new_epoch(self) -> bool:
        """Whether the last step completed an epoch."""
        return self._iterators["main"].is_new_epoch  # type: ignore[no-any-return]

    def update(self) -> None:
        """One step: `update_core`, counted.

        Raises:
            ArgumentError: an iterator has come to its end.
        """
        try:
            self.update_core()
        except StopIteration:
            raise ArgumentError(
                f"an iterator has no more minibatches after iteration {self.iteration}, but the training goes on; make "
                "it with repeat=True, or stop the training earlier"
            ) from None
        self.iteration += 1

    def update_core(self) -> None:
        """One step of the optimizer "main" on a minibatch of the iterator "main"."""
        iterator = self._iterators["main"]
        optimizer = self._optimizers["main"]
        arrays = self.converter(next(iterator), self.input_device)
        lossfun = self.loss_func or optimizer.target
        if isinstance(arrays, tuple):
            optimizer.update(lossfun, *arrays)
        elif isinstance(arrays, dict):
            optimizer.update(lossfun, **arrays)
        else:
            optimizer.update(lossfun, arrays)
        if self.auto_new_epoch and iterator.is_new_epoch:
            optimizer.new_epoch(auto=True)

    def get_iterator(self, name: str) -> Any:
        """The iterator of that name."""
        return self._iterators[name]

    def get_optimizer(self, name: str) -> Any:
        """The optimizer of that name."""
        return self._optimizers[name]

    def get_all_optimizers(self) -> dict[str, Any]:
        """All optimizers by name."""
        return dict(self._optimizers)

    def connect_trainer(self, trainer: Trainer) -> None:
        """Called by the trainer that will run this updater."""

    def finalize(self) -> None:
        """Ends what the iterators have started."""
        for iterator in self._iterators.values():
            if hasattr(iterator, "finalize"):
                iterator.finalize()

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the state of iterators, models and optimizers, and the number of steps."""
        for name, iterator in self._iterators.items():
            iterator.serialize(serializer["iterator:" + name])
        for name, optimizer in self._optimizers.items():
            # The model first: it gives parameters their size, and the optimizer has state for those that have one.
            optimizer.target.serialize(serializer["model:" + name])
            optimizer.serialize(serializer["optimizer:" + name])
        self.iteration = serializer("iteration", self.iteration)


def by_name(given: Any, what: str) -> dict[str, Any]:
    """A dict of iterators or optimizers, made of one or of a dict that has "main".

    Raises:
        ArgumentError: a dict without "main".
    """
    if not isinstance(given, Mapping):
        return {"main": given}
    if "main" not in given:
        raise ArgumentError(f"one {what} must be called 'main'; the names are {', '.join(map(repr, given)) or 'none'}")
    return dict(given)
