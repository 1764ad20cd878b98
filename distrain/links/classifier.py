"""`Classifier`: a predictor with its loss and accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distrain.autograd import Variable
from distrain.errors import ArgumentError
from distrain.functions.evaluation.accuracy import accuracy
from distrain.functions.loss.softmax_cross_entropy import softmax_cross_entropy
from distrain.links.chain import Chain
from distrain.links.link import Link
from distrain.reporting import report


class Classifier(Chain):
    """Computes the loss of a predictor and reports `loss` and `accuracy`.

        model = L.Classifier(MLP(50, 10))
        loss = model(x, t)

    Args:
        predictor: link whose output is compared with the labels.
        lossfun: takes output and labels, gives a scalar.
        accfun: takes output and labels, gives a scalar.
        label_key: which argument holds the labels: a number (of a positional one) or a name (of a keyword).

    Attributes:
        y, loss, accuracy: of the last call.
        compute_accuracy: set it to False to save the time.
    """

    compute_accuracy = True
    predictor: Any

    def __init__(
        self,
        predictor: Link,
        lossfun: Callable[..., Variable] = softmax_cross_entropy,
        accfun: Callable[..., Any] | None = accuracy,
        label_key: int | str = -1,
    ) -> None:
        if not isinstance(label_key, (int, str)) or isinstance(label_key, bool):
            raise ArgumentError(f"label_key must be the number or the name of an argument, not {label_key!r}")
        super().__init__()
        self.lossfun, self.accfun, self.label_key = lossfun, accfun, label_key
        self.y: Any = None
        self.loss: Variable | None = None
        self.accuracy: Any = None
        self.compute_accuracy = accfun is not None
        with self.init_scope():
            self.predictor = predictor

    def forward(self, *args: Any, **kwargs: Any) -> Variable:
        """The loss of a minibatch.

        Args:
            args: what the predictor takes, and the labels.
            kwargs: likewise, by name.

        Raises:
            ArgumentError: there is no argument for the labels.
        """
        if isinstance(self.label_key, int):
            if not -len(args) <= self.label_key < len(args):
                raise ArgumentError(f"label_key is {self.label_key}, but there are {len(args)} positional arguments")
            i = self.label_key % len(args)
            t, args = args[i], args[:i] + args[i + 1 :]
        else:
            if self.label_key not in kwargs:
                given = ", ".join(kwargs) or "none"
                raise ArgumentError(f"label_key is {self.label_key!r}, but the keywords are {given}")
            t = kwargs.pop(self.label_key)
        self.y = self.predictor(*args, **kwargs)
        loss = self.lossfun(self.y, t)
        self.loss = loss
        values = {"loss": loss}
        if self.compute_accuracy and self.accfun is not None:
            self.accuracy = values["accuracy"] = self.accfun(self.y, t)
        else:
            self.accuracy = None
        report(values, self)
        return loss
