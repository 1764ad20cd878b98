"""`BatchNormalization`: normalization over the batch, with running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distrain import minibatch
from distrain.autograd import Parameter, Variable
from distrain.backend import Array
from distrain.config import config
from distrain.functions.normalization.batch_normalization import batch_normalization, fixed_batch_normalization
from distrain.initializers import One, Zero, get_initializer
from distrain.links.link import Link


class BatchNormalization(Link):
    """Normalizes each channel by the statistics of the batch; outside of training by the running statistics.

    Args:
        size: number of channels, or the shape of the normalized axes; None: learned from the first input.
        decay: how much of the old running statistics is kept in a step.
        eps: added to the variance.
        dtype: of the running statistics; `config.dtype`, but at least float32, if None.
        use_gamma, use_beta: whether there is a trained scale and shift.
        initial_gamma, initial_beta: their initializers; ones and zeros if None.
        axis: axes over which statistics are taken; all but the second if None.

    Each rank normalizes by its own part of the batch; in reproducible mode, or with `accumulate`, by one shard or part
    of it. The running statistics are averaged over the ranks before evaluation and snapshots.

    References:
        S. Ioffe, C. Szegedy: Batch Normalization, 2015, algorithm 1.
    """

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        decay: float = 0.9,
        eps: float = 2e-5,
        dtype: DTypeLike | None = None,
        use_gamma: bool = True,
        use_beta: bool = True,
        initial_gamma: Any = None,
        initial_beta: Any = None,
        axis: int | tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.decay, self.eps = decay, eps
        self.axis = (axis,) if isinstance(axis, int) else axis
        self.dtype = np.promote_types(dtype or config.dtype, np.float32)
        self.avg_mean: Array = None
        self.avg_var: Array = None
        self.N = 0
        for name in ("avg_mean", "avg_var", "N"):
            self.register_persistent(name)
        self.gamma: Parameter | None = None
        self.beta: Parameter | None = None
        with self.init_scope():
            if use_gamma:
                self.gamma = Parameter(get_initializer(initial_gamma, One(self.dtype)))
            if use_beta:
                self.beta = Parameter(get_initializer(initial_beta, Zero(self.dtype)))
        if size is not None:
            self._initialize((size,) if isinstance(size, int) else size)

    def _initialize(self, shape: tuple[int, ...]) -> None:
        xp = self.xp
        self.avg_mean, self.avg_var = xp.zeros(shape, self.dtype), xp.ones(shape, self.dtype)
        for param in (self.gamma, self.beta):
            if param is not None and not param.is_initialized:
                param.initialize(shape)

    def forward(self, x: Variable | Array, finetune: bool = False) -> Variable:
        """Normalizes a batch.

        Args:
            x: shape (N, channels, …).
            finetune: the running statistics become the plain mean over all batches since the last call of
                `start_finetuning`.
        """
        axes = self.axis if self.axis is not None else (0, *range(2, x.ndim))
        if self.avg_mean is None:
            self._initialize(tuple(n for i, n in enumerate(x.shape) if i not in axes))
        shape, xp = self.avg_mean.shape, self.xp
        gamma = self.gamma if self.gamma is not None else xp.ones(shape, self.dtype)
        beta = self.beta if self.beta is not None else xp.zeros(shape, self.dtype)
        if not config.train:
            return fixed_batch_normalization(x, gamma, beta, self.avg_mean, self.avg_var, self.eps, axis=axes)
        share = minibatch.current()
        if share is not None and share.count == 0:  # a stand-in for a sample must not be followed
            return batch_normalization(x, gamma, beta, eps=self.eps, axis=axes)
        decay = self.decay
        if finetune:
            self.N += 1
            decay = 1.0 - 1.0 / self.N
        return batch_normalization(
            x,
            gamma,
            beta,
            eps=self.eps,
            running_mean=self.avg_mean,
            running_var=self.avg_var,
            decay=decay,
            axis=axes,
        )

    def start_finetuning(self) -> None:
        """Starts the plain mean of `forward(x, finetune=True)` anew."""
        self.N = 0
