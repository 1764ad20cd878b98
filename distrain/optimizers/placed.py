"""`PlacedOptimizer`: where parameters lie, which rank has which part of the state, and how gradients are summed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from distrain import reproducible
from distrain.autograd import Parameter
from distrain.errors import ArgumentError
from distrain.optimizers import spread
from distrain.optimizers.agreement import agree
from distrain.optimizers.consistency import require_same
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
from distrain.optimizers.flat import FlatGroup, Run, sort_params
from distrain.optimizers.optimizer import Optimizer
from distrain.optimizers.update_rule import ElementwiseRule


class PlacedOptimizer(Optimizer):
    """An optimizer whose parameters lie in flat groups, alike on all ranks."""

    def __init__(self) -> None:
        super().__init__()
        self._groups: list[FlatGroup] = []
        self._loose: list[Parameter] = []
        self._flat_params: list[Parameter] = []  # those that were moved, by identity of the list
        self._agreed_params: list[Parameter] = []
        self._n_flat = 0  # how many of them had a size then
        self._all_sized = False  # every parameter has a size, on every rank
        self._fp32 = False
        self._exchange: Exchange | None = None  # None while this process is alone
        self._exchange_settings: ExchangeSettings | None = None
        self._plan: ExchangePlan | None = None
        self._layout: Layout = []
        self._ticket = 0
        self._shards_state = False
        self._wants_whole_gradients = False
        self._spread = spread.WHOLE
        self._gathered: spread.WholeState | None = None

    # Placing

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
        self._place(sized)
        self._flat_params, self._n_flat = params, len(sized)
        if self.comm.size > 1:
            self._exchange = self._new_exchange()

    def _is_in_place(self) -> bool:
        return self._flat_params is self.params() and all([group.is_current() for group in self._groups])

    def _place(self, params: list[Parameter]) -> None:
        """Moves parameters into flat groups; a collective call if parts of the state go to other ranks."""
        for group in self._groups:
            group.dissolve()
        kinds, self._loose = sort_params(params)
        rules = [[param.update_rule for param in kind] for kind in kinds]
        if rules != [group.rules for group in self._groups] or any(
            (group.spread.rank, group.spread.size) != (self._spread.rank, self._spread.size) for group in self._groups
        ):
            self._make_whole()
        self._groups = [FlatGroup(kind, self._spread) for kind in kinds]

    def gradient_runs(self) -> list[Run | Parameter]:
        """Everything that this step updates, in pieces with `array` and `grad`: for hooks over all parameters.

        With `shard_state`, hooks that say `works_on_parts = True` get this rank's part of each piece.
        """
        pieces: list[Run | Parameter] = [run for group in self._groups for run in group.runs()]
        pieces += [p for p in self._loose if p.grad is not None and p.update_rule.enabled]
        return pieces

    def sum_over_pieces(self, function: Callable[[Run | Parameter], Any]) -> Any:
        """The sum of a function of each piece of `gradient_runs`, those of other ranks included.

        A collective call where each rank has a part of the gradients.

        Args:
            function: gives a number of a piece, such as the sum of its squares.
        """
        pieces = self.gradient_runs()
        if not self._spread.is_scattered:
            return sum([function(piece) for piece in pieces])
        parts = [float(function(piece)) for piece in pieces if isinstance(piece, Run)]
        whole = [float(function(piece)) for piece in pieces if not isinstance(piece, Run)]
        return spread.sum_over_ranks(self.comm, sum(parts)) + sum(whole)

    # The exchange of gradients

    def _new_exchange(self) -> Exchange:
        """The exchange for the present layout; a collective call if that has changed."""
        layout: Layout = [(str(group.buffer.dtype), group.bounds) for group in self._groups]
        layout += [(str(param.dtype), [(0, param.size)]) for param in self._loose]
        if self._plan is None or layout != self._layout:
            require_same(self.comm, self)
            settings = self._exchange_settings or settings_of(self.comm)
            self._ticket = agree_on_layout(self.comm, layout, settings)
            self._layout = layout
            _require_no_double(self._shards_state, settings)
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
            dtype: float16 or "bfloat16" halves what is sent: each gradient is rounded once before it is sent and once
                after the sum, which is taken in float32. bfloat16 has the range of float32 but fewer digits than
                float16; from GPUs it goes through host memory. None: the gradients' own.

        Raises:
            ArgumentError: another `how`, a size or a dtype that cannot be, or "double" with `shard_state`.
        """
        settings = checked_settings(how, bucket_bytes, dtype)
        _require_no_double(self._shards_state, settings)
        self._exchange_settings = settings
        self._place_anew()

    def _place_anew(self) -> None:
        """Has the parameters placed, and the exchange agreed on, at the next step."""
        self._plan = None
        self._flat_params = []

    # State that is spread over the ranks

    @property
    def is_state_sharded(self) -> bool:
        """Whether each rank keeps only its part of the state; see `shard_state`."""
        return self._shards_state

    def shard_state(self, use: bool = True, *, whole_gradients: bool | None = None) -> None:
        """Lets each rank keep only its part of the optimizer's state (ZeRO stage 1), and update that part.

        With N ranks, each has 1/N of the moments and of the float32 masters. It gets the sums of its part of the
        gradients, updates its part of the parameters, and the ranks exchange those. The training stays the same. After
        the update, gradients are None, since no rank has all of them.

        Hooks over all gradients or over whole parameters, apart from those that say `elementwise = True` or
        `works_on_parts = True`, and reproducible mode, need all gradients: these are then summed on every rank, as
        without `shard_state`, and stay.

        A collective call if there is state already. Snapshots have the whole state and can be loaded with or without.

        Args:
            use: False: every rank has all of the state, as at first.
            whole_gradients: sum all gradients on every rank in any case, for code that looks at them after the update,
                such as ParameterStatistics. None: as said before, at first not.

        Raises:
            ArgumentError: gradients are exchanged with double buffering.
        """
        _require_no_double(use, self._exchange_settings)
        if not use:
            self._make_whole()
            self._spread = spread.WHOLE
        self._shards_state = use
        if whole_gradients is not None:
            self._wants_whole_gradients = whole_gradients
        self._place_anew()

    def _choose_spread(self) -> None:
        """Decides which part of state and gradients this rank has in the step that begins."""
        wanted = spread.WHOLE
        if self._shards_state and self.comm.size > 1:
            wanted = spread.Spread(self.comm.rank, self.comm.size, self._allows_parts())
        if wanted != self._spread:
            self._spread = wanted
            self._place_anew()

    def _allows_parts(self) -> bool:
        """Whether nothing needs the gradients of all parameters."""
        if self._wants_whole_gradients or reproducible.shards():
            return False
        allow = [
            getattr(hook, "elementwise", False) or getattr(hook, "works_on_parts", False)
            for hook, _ in self.hooks.values()
        ]
        return all(allow) and not any([p.update_rule.hooks for p in self.params()])

    def _make_whole(self) -> None:
        """Gives every rank all of the state; a collective call if it is spread."""
        groups = [group for group in self._groups if any([rule.part is not None for rule in group.rules])]
        if groups:
            spread.make_whole(self.comm, groups)

    def _is_spread(self) -> bool:
        return any([rule.part is not None for group in self._groups for rule in group.rules])

    def gather(self) -> None:
        """Brings the whole state to rank 0, where it can be saved until the next update; a collective call.

        Extensions that save do it by themselves.
        """
        self._gathered = spread.gather_state(self.comm, self._groups, to_all=False) if self._is_spread() else None

    def serialize(self, serializer: Any) -> None:
        """Reads or writes the counts, the state of every parameter's rule, and how gradients are exchanged.

        Raises:
            ArgumentError: there is state to write, of which this rank has only a part; see `gather`.
        """
        if self._fp32:
            for param in self.params():
                _use_fp32(param, True)
        whole: Any = nullcontext()
        if self._is_spread():
            if serializer.is_writer:
                whole = spread.written_whole(self._groups, self._gathered, self.comm)
            else:
                whole = spread.read_whole(self._groups)
                self._gathered = None
        with whole:
            super().serialize(serializer)
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


def _require_no_double(shards_state: bool, settings: ExchangeSettings | None) -> None:
    if shards_state and settings is not None and settings.how == "double":
        raise ArgumentError(
            "double buffering sums gradients while the next step computes, in the place where shard_state exchanges "
            "parameters: leave one of them out (use_exchange('buckets') hides the sums behind the backward pass)"
        )
