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
from distrain.optimizers.agreement import agree
from distrain.optimizers.consistency import check_parameters, require_same
from distrain.optimizers.exchange import Exchange
from distrain.optimizers.exchange_plan import (
    ExchangePlan,
    ExchangeSettings,
    How,
    Layout,
    agree_on_layout,
    checked_settings,
    read_choice,
    settings_of,
    write_choice,
)
from distrain.optimizers.flat import FlatGroup, Run, group_params
from distrain.optimizers.loss_scale import LossScale
from distrain.optimizers.optimizer import Optimizer
from distrain.optimizers.shards import ShardedStep
from distrain.optimizers.update_rule import ElementwiseRule


class GradientMethod(Optimizer):
    """An optimizer that follows gradients. Subclasses define `create_update_rule`."""

    def __init__(self) -> None:
        super().__init__()
        self._groups: list[FlatGroup] = []
        self._loose: list[Parameter] = []
        self._flat_params: list[Parameter] = []  # those that were moved, by identity of the list
        self._agreed_params: list[Parameter] = []
        self._sharded: ShardedStep | None = None  # in reproducible mode
        self._exchange: Exchange | None = None  # None while this process is alone
        self._exchange_settings: ExchangeSettings | None = None
        self._plan: ExchangePlan | None = None
        self._layout: Layout = []
        self._ticket = 0
        self._n_flat = 0  # how many of them had a size then
        self._all_sized = False  # every parameter has a size, on every rank
        self._loss_scale: LossScale | None = None
        self._fp32 = False
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
        shards = reproducible.shards()
        if shards:
            self._work_in_shards(lossfun, args, kwargs, shards)
            start = time.perf_counter()
            self._apply()
            clock.lap("update", start)
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
        self._apply()
        clock.lap("update", start)

    def _apply(self) -> None:
        """Updates the parameters with the gradients of the job's minibatch."""
        if self._unscale():
            self.t += 1
            self._run_hooks("pre")
            for group in self._groups:
                for run in group.runs():
                    self._step(run)
            for param in self._loose:
                param.update_rule.update(param)
            self._run_hooks("post")
            if self.comm.size > 1 and self.check_interval and self.t % self.check_interval == 0:
                check_parameters(self.comm, self)

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
        rule = run.rules[0]
        if rule.hooks:  # then the run is this rule's parameter alone
            rule.update(run.group.params[run.group.rules.index(rule)])
        else:
            run.step()

    # Flat parameters

    def _flatten(self) -> None:
        """Moves the parameters into flat groups, if they do not lie there already."""
        params = self.params()
        in_place = self._is_in_place()
        if in_place and self._all_sized:
            return
        if self.comm.size > 1 and (self._agreed_params is not params or not self._all_sized):
            # Only what all ranks see alike may lead here: one rank may move its model to another device and back.
            self._agreed = agree(self.require_target(), self.comm, self._agreed)
            self._agreed_params = params
        sized = [param for param in params if param.is_initialized]
        self._all_sized = len(sized) == len(params)
        if in_place and len(sized) == self._n_flat:
            return
        for param in params:
            _use_fp32(param, self._fp32)
        for group in self._groups:
            group.dissolve()
        self._groups, self._loose = group_params(sized)
        self._flat_params, self._n_flat = params, len(sized)
        if self.comm.size > 1:
            self._exchange = self._new_exchange()

    def _is_in_place(self) -> bool:
        return self._flat_params is self.params() and all([group.is_current() for group in self._groups])

    def _new_exchange(self) -> Exchange:
        """The exchange for the present layout; a collective call if that has changed."""
        layout: Layout = [(str(group.buffer.dtype), group.bounds) for group in self._groups]
        layout += [(str(param.dtype), [(0, param.size)]) for param in self._loose]
        if self._plan is None or layout != self._layout:
            require_same(self.comm, self)
            self._ticket = agree_on_layout(self.comm, layout)
            self._layout = layout
            settings = self._exchange_settings or settings_of(self.comm)
            nbytes = sum(group.grad.nbytes for group in self._groups)
            self._plan = ExchangePlan(settings, nbytes, self.comm.size, self.comm.channel.may_thread)
        return Exchange(self.comm, self._groups, self._loose, self._plan, self._ticket)

    def use_exchange(self, how: How = "auto", bucket_bytes: int = 2**22, dtype: Any = None) -> None:
        """Says how the ranks exchange gradients.

        Args:
            how: "direct": in one call when the backward pass is over; "buckets": in parts, while the backward pass
                still works on the others; "measure": whichever is faster in the first steps; "auto": "measure" on two
                ranks. On more, where the way they are sent can change the last bits of a sum, it goes by their size.
                "double" buffering: gradients are summed while the next step computes, which is updated with them; so
                each update uses the gradients of the step before, the first step none, and a resumed run again none.
            bucket_bytes: size of the parts.
            dtype: float16 halves what is sent: each gradient is rounded once before it is sent and once after the
                sum, which is taken in float32. None: the gradients' own.

        Raises:
            ArgumentError: another `how`, a size or a dtype that cannot be.
        """
        self._exchange_settings = checked_settings(how, bucket_bytes, dtype)
        self._plan = None
        self._flat_params = []  # a new exchange at the next step

    def gradient_runs(self) -> list[Run | Parameter]:
        """Everything that this step updates, in pieces with `array` and `grad`: for hooks over all parameters."""
        pieces: list[Run | Parameter] = [run for group in self._groups for run in group.runs()]
        pieces += [p for p in self._loose if p.grad is not None and p.update_rule.enabled]
        return pieces

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
        finite = all([bool(piece.xp.isfinite(piece.grad).all()) for piece in self.gradient_runs()])
        scaling.adjust(finite)
        return finite

    def serialize(self, serializer: Any) -> None:
        """Reads or writes the counts, the state of every parameter's rule and the loss scale."""
        if self._fp32:
            for param in self.params():
                _use_fp32(param, True)
        super().serialize(serializer)
        if self._loss_scale is not None and self._loss_scale.is_dynamic:
            self._loss_scale.serialize(serializer["loss_scale"].lenient())
        if self.comm.size > 1:
            self._serialize_exchange(serializer["exchange"])

    def _serialize_exchange(self, serializer: Any) -> None:
        if serializer.is_writer:
            write_choice(serializer, self._plan, self.comm.size)
        elif self._exchange_settings is None:
            self._exchange_settings = read_choice(serializer.optional(), self.comm)


def _use_fp32(param: Parameter, flag: bool) -> None:
    rule = param.update_rule
    if isinstance(rule, ElementwiseRule):
        rule.fp32 = flag
