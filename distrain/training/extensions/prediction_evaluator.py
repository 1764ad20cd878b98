"""An extension for metrics that need the predictions for a whole validation set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distrain import backend
from distrain import comm as comm_module
from distrain.autograd import Variable
from distrain.dataset import concat_examples
from distrain.errors import ArgumentError
from distrain.reporting import report, report_scope
from distrain.training.extensions.evaluator import Counter, Evaluator, require_all

_Columns = dict[Any, np.ndarray]  # arrays of one row a sample, by place or name


class PredictionEvaluator(Evaluator):
    """Reports numbers that are no means over samples: an area under a curve, F1, BLEU …

        def metrics(scores, labels):
            return {"auc": roc_auc_score(labels, scores)}

        predict = lambda x, t: (F.sigmoid(model.predictor(x)), t)
        trainer.extend(extensions.PredictionEvaluator(test_iter, model, predict, metrics))

    The predictions of all ranks come together on rank 0 in the order of the validation set, each sample once, as
    `Evaluator` checks. They are kept in host memory there until `metrics` has returned.

    Args:
        iterator, target, converter, device, eval_hook: see `Evaluator`.
        predict: called with the arrays of a minibatch; returns an array or Variable, or a tuple or dict of them, with a
            row for each sample.
        metrics: called on rank 0 with NumPy arrays of all rows, one for each that `predict` returns, by place or by
            name; returns numbers by name, which are reported as `validation/main/auc` …

    Raises:
        ArgumentError: see `Evaluator`.
    """

    def __init__(
        self,
        iterator: Any,
        target: Any,
        predict: Callable[..., Any],
        metrics: Callable[..., Mapping[str, Any]],
        converter: Callable[..., Any] = concat_examples,
        device: Any = None,
        eval_hook: Callable[[Evaluator], Any] | None = None,
    ) -> None:
        super().__init__(iterator, target, converter, device, eval_hook, predict)
        self.predict, self.metrics = predict, metrics

    def evaluate(self) -> dict[str, float]:
        """One pass over the validation set; see `Evaluator.evaluate`.

        Raises:
            ArgumentError: `predict` returns other numbers of rows than there are samples, or `metrics` no numbers.
            WorldError: the ranks have not seen each sample once.
        """
        comm = self.comm or comm_module.world()
        counter = Counter(self._iterators["main"])
        rows: dict[int, list[_Columns]] = {}
        for piece in self.run_through(comm, self.predict, counter):
            columns = _columns(piece.returned, piece.samples)
            rows.setdefault(piece.batch, []).append(columns)
        mine = [_joined(some) for _, some in sorted(rows.items())]
        counts = comm.allgather_obj((counter.seen, counter.expected, counter.is_shared))
        is_shared = require_all(comm, counts)
        every = comm.gather_obj(mine)
        found: dict[str, float] = {}
        if every is not None:
            found = self._numbers(_in_order(every, is_shared))
        return _reported(comm.bcast_obj(found), self._targets["main"])

    def _numbers(self, columns: _Columns) -> dict[str, float]:
        places = [columns[place] for place in columns if isinstance(place, int)]
        names = {name: column for name, column in columns.items() if isinstance(name, str)}
        numbers = self.metrics(*places, **names)
        try:
            return {str(name): float(value) for name, value in numbers.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ArgumentError(f"metrics must return numbers by name, not {numbers!r}") from error


def _columns(returned: Any, samples: int) -> _Columns:
    """What a prediction returns, without the row of a stand-in."""
    if isinstance(returned, Mapping):
        parts: dict[Any, Any] = dict(returned)
    else:
        parts = dict(enumerate(returned if isinstance(returned, tuple) else (returned,)))
    columns: _Columns = {}
    for name, part in parts.items():
        array = backend.to_cpu(part.array if isinstance(part, Variable) else part)
        if not isinstance(array, np.ndarray) or array.ndim == 0 or len(array) != max(samples, 1):
            found = f"of shape {array.shape}" if isinstance(array, np.ndarray) else repr(type(array).__name__)
            raise ArgumentError(f"predict must return a row for each of {samples} samples; output {name!r} is {found}")
        columns[name] = array[:samples]
    return columns


def _joined(parts: list[_Columns]) -> _Columns:
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _in_order(every: list[list[_Columns]], is_shared: bool) -> _Columns:
    """The rows of all ranks in the order of the dataset: by minibatch, then by rank, if they share minibatches."""
    if is_shared:
        longest = max(map(len, every))
        parts = [mine[number] for number in range(longest) for mine in every if number < len(mine)]
    else:
        parts = [part for mine in every for part in mine]
    return _joined(parts) if parts else {}


def _reported(numbers: dict[str, float], target: Any) -> dict[str, float]:
    observation: dict[str, Any] = {}
    with report_scope(observation):
        report(numbers, target)
    return observation
