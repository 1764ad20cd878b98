"""`Optimizer`: what all ways to train a model have in common."""

from __future__ import annotations

from typing import Any, Self

from distrain import comm as comm_module
from distrain.autograd import Parameter
from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.links import Link
from distrain.links.link import Structure
from distrain.optimizers.agreement import Agreed, agree
from distrain.optimizers.hyperparameter import Hyperparameter
from distrain.optimizers.update_rule import Hook, UpdateRule, add_hook


class Optimizer:
    """Trains the parameters of a link.

        optimizer = distrain.optimizers.Adam()
        optimizer.setup(model)
        optimizer.update(model, x, t)

    Attributes:
        target: the link; None before `setup`.
        hyperparam: values for all parameters that have none of their own.
        t: number of updates so far.
        epoch: number of epochs so far; counted by `new_epoch`.
        accumulate: parts in which each rank works through its share of a minibatch.
        check_interval: updates after which the ranks compare digests of their parameters; 0: never.
    """

    def __init__(self) -> None:
        self.hyperparam = Hyperparameter()
        self.target: Any = None
        self.t = 0
        self.epoch = 0
        self.accumulate = 1
        self.check_interval = 1000
        self.use_auto_new_epoch = False
        self.hooks: dict[str, tuple[Hook, str]] = {}
        self._comm: Communicator | None = None
        self._params: list[Parameter] = []
        self._structure = -1
        self._agreed: Agreed = {}

    @property
    def comm(self) -> Communicator:
        """The ranks that train together; the job's world unless `setup` was told otherwise."""
        if self._comm is None:
            self._comm = comm_module.world()
        return self._comm

    def setup(self, link: Link, comm: Communicator | None = None, *, accumulate: int = 1) -> Self:
        """Takes charge of a link; every rank gets rank 0's parameters and persistent values.

        Args:
            link: what to train.
            comm: the ranks that train together; None is the job's world.
            accumulate: in how many parts each rank works through its share of a minibatch in `update(lossfun, …)`,
                one after the other, so that the activations of one part need memory at a time. Gradients and reports
                are those of the whole minibatch; the ranks exchange them once. Batch normalization takes its
                statistics over a part.

        Raises:
            ArgumentError: it is not a link, or `accumulate` is not positive.
            WorldError: the ranks have different models.
        """
        if not isinstance(link, Link):
            raise ArgumentError(f"setup takes a Link, not {type(link).__name__}")
        if accumulate < 1:
            raise ArgumentError(f"accumulate is the number of parts of a minibatch, at least 1, not {accumulate}")
        self.accumulate = accumulate
        if comm is not None:
            self._comm = comm
        self.target, self.t, self.epoch = link, 0, 0
        self.hooks = {}
        self._params, self._structure = [], -1
        for param in link.params():
            param.unbind()  # an optimizer that had it before gives it away
            param.update_rule = self.create_update_rule()
        self._agreed = {}
        if self.comm.size > 1:
            self._agreed = agree(link, self.comm, self._agreed)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        raise ArgumentError(
            f"{type(self).__name__} cannot be copied together with its model: copy the model and set up a new optimizer"
        )

    def require_target(self) -> Any:
        """The link that is trained.

        Raises:
            ArgumentError: `setup` was not called.
        """
        if self.target is None:
            raise ArgumentError(f"{type(self).__name__} has nothing to train: call optimizer.setup(model) first")
        return self.target

    def params(self) -> list[Parameter]:
        """All parameters of the target in the order of registration; looked up again when a model has changed."""
        if self._structure != Structure.version:
            params = list(self.require_target().params())
            for param in params:
                if param.update_rule is None:
                    param.update_rule = self.create_update_rule()
            if len(params) != len(self._params) or any(a is not b for a, b in zip(params, self._params, strict=True)):
                self._params = params  # another list only if it is this model that has changed
            self._structure = Structure.version
        return self._params

    def create_update_rule(self) -> UpdateRule:
        """A new update rule for one parameter."""
        raise NotImplementedError(f"{type(self).__name__} does not define create_update_rule")

    def update(self, lossfun: Any = None, *args: Any, **kwargs: Any) -> None:
        """One step of training."""
        raise NotImplementedError(f"{type(self).__name__} does not define update")

    def new_epoch(self, auto: bool = False) -> None:
        """Counts an epoch.

        Args:
            auto: the call comes from an updater and not from the user's loop.

        Raises:
            ArgumentError: both an updater and the user's loop count.
        """
        if auto:
            self.use_auto_new_epoch = True
        elif self.use_auto_new_epoch:
            raise ArgumentError(
                "the updater counts the epochs already; do not call new_epoch, or make it with auto_new_epoch=False"
            )
        self.epoch += 1

    def add_hook(
        self, hook: Hook, name: str | None = None, call_for_each_param: bool | None = None, timing: str = "auto"
    ) -> None:
        """Adds a function that runs at each update.

        Args:
            hook: called as `hook(optimizer)`, or `hook(rule, param)` for each parameter.
            name: for `remove_hook`; the hook's own name if None.
            call_for_each_param: which of the two; None asks the hook's attribute of that name.
            timing: "pre" (before the update, on the summed gradients), "post", or "auto": what the hook says.

        Raises:
            ArgumentError: there is a hook of that name, or `setup` was not called.
        """
        self.require_target()
        each = getattr(hook, "call_for_each_param", False) if call_for_each_param is None else call_for_each_param
        if each and not getattr(hook, "elementwise", False):
            for param in self.params():
                param.update_rule.add_hook(hook, name, timing)
        else:
            add_hook(self.hooks, hook, name, timing)

    def remove_hook(self, name: str) -> None:
        """Removes the hook of that name.

        Raises:
            ArgumentError: there is none.
        """
        found = self.hooks.pop(name, None) is not None
        for param in self.params():
            found = param.update_rule.hooks.pop(name, None) is not None or found
        if not found:
            raise ArgumentError(f"there is no hook {name!r}; the hooks are {', '.join(self.hooks) or 'none'}")

    def serialize(self, serializer: Any) -> None:
        """Reads or writes `t`, `epoch` and the state of every parameter's rule."""
        self.t = serializer("t", self.t)
        self.epoch = serializer("epoch", self.epoch)
        for path, param in self.require_target().namedparams():
            rule = param.update_rule
            if rule is None:
                continue
            if not serializer.is_writer and rule.state is None and param.is_initialized:
                rule.prepare_to_read(param)
            rule.serialize(serializer[path[1:]])
