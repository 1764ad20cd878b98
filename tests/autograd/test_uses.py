from __future__ import annotations

from collections import Counter

import numpy as np

import distrain.functions as F
from distrain import Parameter, Variable
from distrain.autograd.uses import count_uses


def test_as_many_gradients_arrive_as_were_counted() -> None:
    a, b, c = (Parameter(np.full(3, i + 1, np.float32)) for i in range(3))
    data = Variable(np.ones(3, np.float32), requires_grad=False)
    h = a * b + a
    loss = F.sum(h * h * data + F.relu(h) * b)
    counts = count_uses(loss)
    assert counts == {id(a): 2, id(b): 2}
    arrived: Counter[int] = Counter()
    for param in (a, b, c):
        param.on_grad = lambda param: arrived.update([id(param)])
    loss.backward()
    assert arrived == counts
    assert c.grad is None


def test_a_leaf_alone() -> None:
    assert count_uses(Variable(np.ones(1, np.float32))) == {}
