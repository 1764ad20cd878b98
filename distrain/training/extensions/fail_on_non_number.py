"""An extension that stops a training whose numbers are none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from distrain import backend
from distrain.errors import NonFiniteError
from distrain.training.extension import Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class FailOnNonNumber(Extension):
    """Ends the training with an error when a reported value or a parameter is NaN or infinite.

    It reads every parameter each time, and waits for the GPU if they are there; `trigger=(100, "iteration")` makes it
    cheaper.
    """

    def __call__(self, trainer: Trainer) -> None:
        """Checks the observation of this iteration and all parameters.

        Raises:
            NonFiniteError: names iteration and value or parameter.
        """
        place = f"after iteration {trainer.updater.iteration}"
        if trainer.comm.size > 1:
            place += f" on rank {trainer.comm.rank} of {trainer.comm.size}"
        for key, value in trainer.observation.items():
            array = getattr(value, "array", value)
            if getattr(array, "ndim", 0) == 0 and not isinstance(array, str) and not _is_finite(array):
                raise NonFiniteError(f"{key} is {float(array)} {place}. Lower the learning rate or look at the data.")
        for name, optimizer in trainer.updater.get_all_optimizers().items():
            for path, param in optimizer.target.namedparams(include_uninit=False):
                xp = backend.get_array_module(param.array)
                if not bool(xp.isfinite(param.array).all()):
                    number = int((~xp.isfinite(param.array)).sum())
                    raise NonFiniteError(
                        f"the parameter {name}{path} has {number} of {param.size} values that are"
                        f" NaN or infinite {place}. Lower the learning rate or clip the gradients."
                    )


def _is_finite(value: object) -> bool:
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except TypeError:  # no number: nothing that could be NaN
        return True
