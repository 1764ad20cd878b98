"""`GradientMethod`: optimizers that follow gradients."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import numpy as np

from distrain import minibatch, reproducible
from distrain.autograd import Parameter, Variable
from distrain.clock import clock
from distrain.config import config
from distrain.errors import ArgumentError
from distrain.optimizers import parts
from distrain.optimizers.consistency import check_parameters
from distrain.optimizers.flat import FlatGroup, Run
from distrain.optimizers.loss_scale import LossScale
from distrain.optimizers.placed import PlacedOptimizer
from distrain.optimizers.shards import ShardedStep
from distrain.optimizers.spread import share_parameters
from distrain.optimizers.update_rule import ElementwiseRule


class GradientMethod(PlacedOptimizer):
    """An optimizer that follows gradients. Subclasses define `create_update_rule`."""

    def __init__(self) -> None:
        super().__init__()
        self._sharded: ShardedStep | None = None  # in reproducible mode
        self._loss_scale: LossScale | None = None
        self._cleargrads = True

    def update(self, lossfun: Any = None, *args: Any, **kwargs: Any) -> None:
        """One step of training: a collective call when several ranks train together.

        The gradients of all ranks are summed, each weighted by its share of the minibatch (`minibatch.current()`;
        without one, all ranks count alike).

        Args:
            lossfun: computes the loss from `args` and `kwargs`; its gradient replaces the gradients that are there.
                None: the gradients are there already, computed by `loss.backward()`. The graph of the loss is taken
                apart, so that a recurrent state which the model keeps does not reach back beyond this step.
        """
        if self._shards_state:
            self._choose_spread()
        shards = reproducible.shards()
        if shards:
            self._work_in_shards(lossfun, args, kwargs, shards)
            self._apply(time.perf_counter())
            return
        weight = self._weight()
        start = time.perf_counter()
        if lossfun is not None and self.accumulate > 1 and weight:
            start = self._work_in_parts(lossfun, args, kwargs, weight)
        elif lossfun is not None:
            loss = lossfun(*args, **kwargs)
            start = clock.lap("forward", start)
            self._clear()
            self._backward(loss, weight)
            del loss
            start = clock.lap("backward", start)
        for param in self.params():
            if param._grad_var is not None:
                param.settle_grad()
        self._flatten()
        if self.comm.size > 1:
            if self._plan.is_double and self._loss_scale is not None and self._loss_scale.is_dynamic:  # type: ignore[union-attr]
                raise ArgumentError(
                    "double buffering updates with the gradients of the step before, which may have had another loss "
                    "scale: give loss_scaling a constant scale, or leave double buffering out"
                )
            self._exchange.finish(1.0 if lossfun is not None and weight else weight)  # type: ignore[union-attr]
            start = clock.lap("exchange", start)
        self._apply(start)

    def _apply(self, start: float) -> None:
        """Updates the parameters with the gradients of the job's minibatch.

        Args:
            start: when this began, as the clock reads it.
        """
        if self._unscale():
            self.t += 1
            self._run_hooks("pre")
            for group in self._groups:
                for run in group.runs():
                    self._step(run)
            for param in self._loose:
                param.update_rule.update(param)
            if self._spread.size > 1:
                start = self._share(start)
            else:
                self._run_hooks("post")
            if self.comm.size > 1 and self.check_interval and self.t % self.check_interval == 0:
                check_parameters(self.comm, self)
        if self._spread.is_scattered:  # no rank has all of the gradients
            for group in self._groups:
                for param in group.params:
                    param.cleargrad()
        clock.lap("update", start)

    def _share(self, start: float) -> float:
        """Gives every rank the parts of the parameters that the others have updated, and runs the hooks after it.

        Returns:
            The time since which the clock has to count.
        """
        self._gathered = None
        is_scattered = self._spread.is_scattered
        if is_scattered:  # these hooks see this rank's part, which the others get afterwards
            self._run_hooks("post")
        start = clock.lap("update", start)
        for group in self._groups:
            if group.runs():
                share_parameters(self.comm, group)
        clock.lap("sending", start)
        start = clock.lap("exchange", start)
        if not is_scattered:
            for group in self._groups:
                for run in group.runs():
                    if run.rules[0].hooks:
                        run.run_late_hooks()
            self._run_hooks("post")
        return start

    def _work_in_parts(self, lossfun: Any, args: tuple[Any, ...], kwargs: dict[str, Any], weight: float) -> float:
        """Forward and backward pass of one part of the minibatch after the other; their gradients add up.

        Returns:
            The time at the end, as the clock reads it.
        """
        now = time.perf_counter()
        share = minibatch.current()
        count = parts.count_samples((args, kwargs))
        bounds = parts.bounds_of(count, self.accumulate)
        reports = parts.PartReports()
        for number, (start, stop) in enumerate(bounds):
            some_args, some_kwargs = parts.part_of((args, kwargs), start, stop, count)
            with parts.announced(share, start, stop, number), reports.collect(stop - start):
                loss = lossfun(*some_args, **some_kwargs)
            now = clock.lap("forward", now)
            if number == 0:
                self._clear()
            self._backward(loss, weight * (stop - start) / count, is_last=stop == count)
            del loss
            now = clock.lap("backward", now)
        reports.report()
        return now

    def _work_in_shards(self, lossfun: Any, args: tuple[Any, ...], kwargs: dict[str, Any], shards: int) -> None:
        """In reproducible mode: the shards of the minibatch one after the other, and their sum over all ranks."""
        if lossfun is None:
            raise ArgumentError(
                "reproducible mode works through a minibatch in shards, which it can only if it is given the loss "
                "function: call optimizer.update(model, x, t) instead of loss.backward() and optimizer.update()"
            )
        if self._sharded is None or (self._sharded.comm, self._sharded.count) != (self.comm, shards):
            self._sharded = ShardedStep(self.comm, shards)
        count = parts.count_samples((args, kwargs))

        def backward(start: int, stop: int, weight: float) -> None:
            some_args, some_kwargs = parts.part_of((args, kwargs), start, stop, count)
            now = time.perf_counter()
            loss = lossfun(*some_args, **some_kwargs)
            now = clock.lap("forward", now)
            self._clear()
            if weight:
                self._backward(loss, weight, is_last=False)
                for param in self.params():
                    param.settle_grad()
                clock.lap("backward", now)

        start, computing = time.perf_counter(), clock.seconds["forward"] + clock.seconds["backward"]
        self._sharded.run(self.require_target(), backward, self._places, is_first=not self._all_sized)
        clock.lap("exchange", start + clock.seconds["forward"] + clock.seconds["backward"] - computing)
        if not self._is_in_place():
            raise ArgumentError(
                "the parameters of the model changed within a minibatch, which reproducible mode forbids"
            )

    def _places(self) -> tuple[list[FlatGroup], list[Parameter]]:
        self._flatten()
        return self._groups, self._loose

    def _backward(self, loss: Variable, weight: float, is_last: bool = True) -> None:
        """A backward pass; gradients are sent to the other ranks as the last one completes them."""
        exchange = self._exchange
        if exchange is not None and is_last:
            # Nothing is sent early where this step may lay the gradients out anew: it would be summed twice.
            exchange.start(loss if weight and self._all_sized and self._is_in_place() else None)
        if not weight:
            return
        scaling = self._loss_scale
        scale = None if scaling is None else scaling.value
        # A dynamic scale is expected to be too large now and then; whether NumPy warns depends on the BLAS.
        expected = np.errstate(over="ignore", invalid="ignore") if scaling and scaling.is_dynamic else nullcontext()
        try:
            with expected:
                loss.backward(loss_scale=scale, scale=weight, release_graph=not config.keep_graph_on_report)
        except BaseException:
            if exchange is not None:
                exchange.cancel()
            raise

    def _weight(self) -> float:
        if self.comm.size == 1:
            return 1.0
        share = minibatch.current()
        if share is None:
            return 1.0 / self.comm.size
        return share.weight if share.ranks is None else share.weight * share.ranks / self.comm.size

    def _clear(self) -> None:
        for param in self.params():
            if self._cleargrads:
                param.cleargrad()
            else:
                param.zerograd()

    def _step(self, run: Run) -> None:
        if run.rules[0].hooks:  # then the run is this rule's parameter alone
            run.step_alone()
        else:
            run.step()

    def _run_hooks(self, timing: str) -> None:
        for hook, when in list(self.hooks.values()):
            if when != timing:
                continue
            if not getattr(hook, "elementwise", False):
                hook(self)
                continue
            for piece in self.gradient_runs():
                rule = piece.rules[0] if isinstance(piece, Run) else piece.update_rule
                hook(rule, piece)

    # Gradients

    def use_cleargrads(self, use: bool = True) -> None:
        """Whether `update(lossfun, …)` clears the gradients (True) or sets them to zeros (False)."""
        self._cleargrads = use

    def reallocate_cleared_grads(self) -> None:
        """Gives every parameter without gradient a gradient of zeros."""
        for param in self.params():
            if param.is_initialized and param.grad is None:
                param.zerograd()

    # float16

    @property
    def loss_scale(self) -> float | None:
        """The factor on the loss of the next step; None without loss scaling."""
        return None if self._loss_scale is None else self._loss_scale.value

    def set_loss_scale(self, loss_scale: float) -> None:
        """Multiplies every loss by a constant and divides the gradients by it again, so that float16 keeps them."""
        self._loss_scale = LossScale(loss_scale, None)

    def loss_scaling(self, interval: int = 1000, scale: float | None = None) -> None:
        """Finds the factor on the loss while training.

        A step whose gradients are not finite is left out on all ranks and halves the factor; after `interval` good
        steps it doubles.

        Args:
            interval: good steps after which the factor doubles.
            scale: a constant factor instead.
        """
        self._loss_scale = LossScale(2.0**16 if scale is None else scale, None if scale is not None else interval)

    def use_fp32_update(self, flag: bool = True) -> None:
        """Keeps a float32 master of each float16 parameter, which takes the updates.

        Raises:
            ArgumentError: parameters with another kind of rule than `ElementwiseRule` cannot.
        """
        self._fp32 = flag
        self._flat_params = []  # flatten anew, with masters
        for param in self.params() if self.target is not None else ():
            if flag and not isinstance(param.update_rule, ElementwiseRule):
                raise ArgumentError(f"{type(param.update_rule).__name__} has no float32 update")

    def _unscale(self) -> bool:
        """Divides the gradients by the loss scale; False if they are not finite and the step must be left out."""
        scaling = self._loss_scale
        factor = 1.0 if scaling is None else 1.0 / scaling.value
        for group in self._groups:
            group.scale_grad(factor)
        if scaling is None:
            return True
        for param in self._loose:
            if param.grad is not None:
                param.grad = (param.grad * np.float32(factor)).astype(param.dtype)
        if not scaling.is_dynamic:
            return True
        finite = bool(self.sum_over_pieces(lambda piece: not bool(piece.xp.isfinite(piece.grad).all())) == 0)
        scaling.adjust(finite)
        return finite

    def serialize(self, serializer: Any) -> None:
        """Reads or writes the counts, the state of every parameter's rule and the loss scale."""
        super().serialize(serializer)
        if self._loss_scale is not None and self._loss_scale.is_dynamic:
            self._loss_scale.serialize(serializer["loss_scale"].lenient())
