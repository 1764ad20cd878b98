"""An extension that averages the weights of a model over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distrain import backend
from distrain.errors import ArgumentError
from distrain.training.extension import PRIORITY_WRITER, Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class ExponentialMovingAverage(Extension):
    """Keeps a copy of a model whose parameters are the exponential moving average of the model's.

        average = extensions.ExponentialMovingAverage(model, 0.999)
        trainer.extend(average)
        trainer.extend(extensions.Evaluator(test_iter, average.model), name="average")
        trainer.extend(extensions.snapshot_object(average.model, "average.npz"))

    At each call (every iteration by default) `average <- decay * average + (1 - decay) * parameter`. At the beginning
    the decay is `(1 + t) / (10 + t)` where that is less, so that the first numbers of the parameters are soon
    forgotten. Persistent values, such as running statistics, are the model's own. It runs before evaluators; the
    average is part of the snapshot.

    Args:
        model: the model that is trained.
        decay: how much of the average is kept at a call, 0 … 1.

    Attributes:
        model: the copy.

    Raises:
        ArgumentError: another decay.
    """

    priority = PRIORITY_WRITER + 100

    def __init__(self, model: Any, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError(f"the decay of ExponentialMovingAverage lies in 0 … 1 and is less than 1, not {decay}")
        self.decay = decay
        self.model = model.copy("copy")
        self._source = model
        self._t = 0

    def __call__(self, trainer: Trainer) -> None:
        """Moves the average towards the parameters."""
        kept = min(self.decay, (1 + self._t) / (10 + self._t))
        self._t += 1
        averages = dict(self.model.namedparams())
        for path, param in self._source.namedparams(include_uninit=False):
            average = averages[path]
            if not average.is_initialized:
                average.array = param.array.copy()
                continue
            array = param.array
            if average.device != param.device:
                average.to_device(param.device)
            average.array += (array - average.array) * array.dtype.type(1 - kept)
        _copy_persistents(self._source, self.model)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the average."""
        self._t = serializer("_t", self._t)
        self.model.serialize(serializer["model"])


def _copy_persistents(source: Any, target: Any) -> None:
    links = dict(target.namedlinks())
    for path, value in source.namedpersistents():
        prefix, _, name = path.rpartition("/")
        link = links[prefix or "/"]
        mine = getattr(link, name)
        if isinstance(mine, np.ndarray) or backend.is_gpu_array(mine):
            backend.copyto(mine, value)
        else:
            setattr(link, name, value)
