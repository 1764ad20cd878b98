"""One process that trains on several devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from distrain.dataset import Batch, concat_examples
from distrain.dataset.sharding import share
from distrain.errors import ArgumentError
from distrain.reporting import DictSummary, Reporter, report
from distrain.training.persistents import average_over_copies
from distrain.training.updaters.standard import StandardUpdater

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class ParallelUpdater(StandardUpdater):
    """Splits each minibatch over several devices of this process.

        updater = ParallelUpdater(train_iter, optimizer, devices={"main": 0, "second": 1})

    Each device has a copy of the model. The copies' gradients are added to those of the model of the optimizer, which
    is updated and copied back, so the training is the same as on one device. CPU devices ("cpu:0", "cpu:1") work too.
    Where there are fewer examples than devices, the last devices have nothing to do.

    Args:
        iterator: see `StandardUpdater`.
        optimizer: see `StandardUpdater`.
        converter: see `StandardUpdater`.
        models: a dict of models; "main" is that of the optimizer. None copies it to each device.
        devices: a dict of devices with the same keys, "main" among them.
        loss_func: gives the loss of the arrays on one device; called as `loss_func(*arrays)`. Each device's model by
            default.
        loss_scale: see `StandardUpdater`.
        auto_new_epoch: see `StandardUpdater`.

    Raises:
        ArgumentError: neither models nor devices, different keys, no "main", or a "main" that is not the optimizer's.
    """

    def __init__(
        self,
        iterator: Any,
        optimizer: Any,
        converter: Callable[..., Any] = concat_examples,
        models: Mapping[str, Any] | None = None,
        devices: Mapping[str, Any] | None = None,
        loss_func: Callable[..., Any] | None = None,
        loss_scale: float | None = None,
        auto_new_epoch: bool = True,
    ) -> None:
        super().__init__(iterator, optimizer, converter, None, loss_func, loss_scale, auto_new_epoch)
        target = self._optimizers["main"].target
        names = _names(models, devices)
        if models is not None and models["main"] is not target:
            raise ArgumentError("models['main'] must be the model of the optimizer: optimizer.setup(models['main'])")
        self._devices = {name: None if devices is None else devices[name] for name in names}
        self._models = {
            name: models[name] if models is not None else target if name == "main" else target.copy("copy")
            for name in names
        }
        for name, model in self._models.items():
            if self._devices[name] is not None:
                model.to_device(self._devices[name])
            if model is not target:
                model.copyparams(target)
        self._report_to(Reporter())

    def connect_trainer(self, trainer: Trainer) -> None:
        """Lets the copies report to the trainer."""
        self._report_to(trainer.reporter)

    def _report_to(self, reporter: Reporter) -> None:
        """Registers the copies under the names of the model."""
        self._reporter = reporter
        for model in self._models.values():
            reporter.add_observer("main", model)
            reporter.add_observers("main", model.namedlinks(skipself=True))

    def update_core(self) -> None:
        """One step: each device its part of the minibatch, then one update."""
        iterator = self._iterators["main"]
        optimizer = self._optimizers["main"]
        batch = next(iterator)
        used: list[Any] = []
        weights: list[float] = []
        summary = DictSummary()
        for i, (name, model) in enumerate(self._models.items()):
            start, stop = share(len(batch), i, len(self._models))
            if start == stop:
                break  # the parts shrink, so the other devices have none either
            observation = self._backward(name, model, _part(batch, start, stop), (stop - start) / len(batch))
            summary.add(observation, stop - start)
            used.append(model)
            weights.append((stop - start) / len(batch))
        report(summary.compute_mean())
        main = self._models["main"]
        for model in used:
            if model is not main:
                main.addgrads(model)
        average_over_copies(main, used, weights)
        optimizer.update()
        for model in self._models.values():
            if model is not main:
                model.copyparams(main)
        if self.auto_new_epoch and iterator.is_new_epoch:
            optimizer.new_epoch(auto=True)

    def _backward(self, name: str, model: Any, examples: Any, weight: float) -> dict[str, Any]:
        """Forward and backward on one device; returns what was reported there."""
        device = self._devices[name]
        arrays = self.converter(examples, device)
        lossfun = self.loss_func or model
        observation: dict[str, Any] = {}
        model.cleargrads()
        with self._reporter, self._reporter.scope(observation):
            if isinstance(arrays, tuple):
                loss = lossfun(*arrays)
            elif isinstance(arrays, dict):
                loss = lossfun(**arrays)
            else:
                loss = lossfun(arrays)
        loss.backward(loss_scale=self._optimizers["main"].loss_scale, scale=weight)
        return observation


def _names(models: Mapping[str, Any] | None, devices: Mapping[str, Any] | None) -> list[str]:
    if models is None and devices is None:
        raise ArgumentError("ParallelUpdater needs devices={'main': …, 'second': …} or models={…}")
    if models is not None and devices is not None and set(models) != set(devices):
        raise ArgumentError(
            f"models has the keys {sorted(models)}, but devices has {sorted(devices)}; give both the same"
        )
    names = list(models if models is not None else devices or ())
    if "main" not in names:
        raise ArgumentError(f"one device must be called 'main'; the names are {', '.join(map(repr, names)) or 'none'}")
    return ["main", *(name for name in names if name != "main")]


def _part(batch: Any, start: int, stop: int) -> Any:
    """Some examples of a batch; they stay collated if they are."""
    columns = batch.columns if isinstance(batch, Batch) else None
    if isinstance(columns, tuple):
        return Batch(columns=tuple([column[start:stop] for column in columns]))
    if isinstance(columns, dict):
        return Batch(columns={key: column[start:stop] for key, column in columns.items()})
    return batch[start:stop]
