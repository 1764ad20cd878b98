from __future__ import annotations

import json
import math

import pytest

from distrain import optimizers, serializers
from distrain.errors import ArgumentError
from distrain.training import extensions

EACH = (1, "iteration")
CURVES = [
    # curve, the values with which the first seven steps are made, by a formula of its own
    (lambda: extensions.ExponentialShift("lr", 0.5, 8), [8, 4, 2, 1, 0.5, 0.25, 0.125]),
    (lambda: extensions.ExponentialShift("lr", 0.5, 8, 1.5), [8, 4, 2, 1.5, 1.5, 1.5, 1.5]),
    (lambda: extensions.ExponentialShift("lr", 2), [0.25, 0.5, 1, 2, 4, 8, 16]),  # from the optimizer's value
    (lambda: extensions.ExponentialShift("lr", 2, target=3), [0.25, 0.5, 1, 2, 3, 3, 3]),
    (lambda: extensions.InverseShift("lr", 0.5, 2, 1), [(1 + 0.5 * t) ** -2 for t in range(7)]),
    (lambda: extensions.InverseShift("lr", 1, 1, 1, 0.3), [1, 1 / 2, 1 / 3, 0.3, 0.3, 0.3, 0.3]),
    (lambda: extensions.LinearShift("lr", (2, 1), (2, 4)), [2, 2, 2, 1.5, 1, 1, 1]),
    (lambda: extensions.MultistepShift("lr", 0.1, [3, 5], 1), [1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
    (lambda: extensions.PolynomialShift("lr", 2, 4, 16), [16, 9, 4, 1, 0, 0, 0]),
    (lambda: extensions.PolynomialShift("lr", 1, 4, 16, 6), [16, 12, 8, 6, 6, 6, 6]),
    (lambda: extensions.StepShift("lr", 0.5, 3, 4), [4, 4, 4, 2, 2, 2, 1]),
    (lambda: extensions.WarmupShift("lr", 0.25, 3, 1), [0.25, 0.5, 0.75, 1, 1, 1, 1]),
    (lambda: extensions.CosineShift("lr", 4, 2), [2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5, 0, 0, 0]),
    (lambda: extensions.CosineShift("lr", 5, 4, target=2, warmup=2), [0, 2, 4, 3.5, 2.5, 2, 2]),
    (
        lambda: extensions.OneCycleShift("lr", 5, 4, 1, 0, rise=0.5),
        [1, 3, 5, 2.5, 0, 0, 0],
    ),
    (
        lambda: extensions.OneCycleShift("lr", 25, 5, rise=0.4),
        [1, 13, 25, *[1e-4 + (25 - 1e-4) * (1 + math.cos(math.pi * i / 3)) / 2 for i in (1, 2)], 1e-4, 1e-4],
    ),
]  # fmt: skip


def train(make_digits_trainer, shift, last, trigger=EACH, resume=None, **arguments):
    """The learning rates with which the steps were made."""
    trainer = make_digits_trainer((last, "iteration"), optimizer=optimizers.SGD(0.25), **arguments)
    rates = []
    optimizer = trainer.updater.get_optimizer("main")
    update_core = trainer.updater.update_core
    trainer.updater.update_core = lambda: (rates.append(optimizer.lr), update_core())
    trainer.extend(shift, trigger=trigger)
    trainer.extend(extensions.snapshot(), trigger=EACH)
    if resume:
        serializers.load_npz(resume, trainer)
    trainer.run()
    return rates


@pytest.mark.parametrize(("make", "expected"), CURVES)
def test_follows_the_curve_also_across_a_resume(make_digits_trainer, tmp_path, make, expected):
    assert train(make_digits_trainer, make(), 7) == pytest.approx(expected, abs=1e-12)
    for at in (2, 5):
        path = tmp_path / "result" / f"snapshot_iter_{at}"
        rest = train(make_digits_trainer, make(), 7, resume=path, out=tmp_path / "resumed")
        assert rest == pytest.approx(expected[at:], abs=1e-12)


def test_the_trigger_is_the_unit(make_digits_trainer):
    rates = train(make_digits_trainer, extensions.ExponentialShift("lr", 0.5, 1), 7, (1, "epoch"))  # 3 steps each
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_changes_what_the_model_learns(make_digits_trainer):
    """Steps at rate 0 leave the parameters alone."""
    trainer = make_digits_trainer((4, "iteration"), optimizer=optimizers.SGD(0.25))
    trainer.extend(extensions.MultistepShift("lr", 0, [2], 0.1), trigger=EACH)
    weights = []
    model = trainer.updater.get_optimizer("main").target
    trainer.extend(lambda trainer: weights.append(model.predictor.l1.W.array.copy()), name="note")
    trainer.run()
    assert (weights[0] != weights[1]).any()
    assert (weights[1] == weights[2]).all()
    assert (weights[2] == weights[3]).all()


def test_another_optimizer(make_digits_trainer):
    other = optimizers.Adam(alpha=1.0)
    assert train(make_digits_trainer, extensions.StepShift("alpha", 0.5, 1, optimizer=other), 2) == [0.25, 0.25]
    assert other.alpha == 0.25


@pytest.mark.parametrize("attr", ["alpha", "lr"])
def test_an_attribute_that_cannot_be_set_is_an_error(make_digits_trainer, attr):
    optimizer = optimizers.Adam() if attr == "lr" else optimizers.MomentumSGD()
    trainer = make_digits_trainer((1, "iteration"), optimizer=optimizer)
    trainer.extend(extensions.WarmupShift(attr, 0.1, 3, 1))
    names = "'alpha', 'beta1'" if attr == "lr" else "'lr', 'momentum'"
    with pytest.raises(ArgumentError, match=f"has no number of that name that could be set; it has {names}"):
        trainer.run()


@pytest.mark.parametrize(
    "make",
    [
        lambda: extensions.ExponentialShift("lr", -1),
        lambda: extensions.LinearShift("lr", (1, 2), (5, 5)),
        lambda: extensions.PolynomialShift("lr", 1, 0),
        lambda: extensions.CosineShift("lr", 5, warmup=5),
        lambda: extensions.OneCycleShift("lr", 1, 5, rise=1),
    ],
)
def test_impossible_curves_are_refused(make):
    with pytest.raises(ArgumentError, match="Shift"):
        make()


SCRIPT = """
import json, sys
import distrain.links as L
from distrain import comm, datasets, optimizers, set_seed, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

set_seed(5)
train = datasets.SubDataset(datasets.get_digits()[0], 0, 203)
optimizer = optimizers.SGD().setup(L.Classifier(L.Linear(64, 10)))
updater = training.StandardUpdater(SerialIterator(train, 50), optimizer)
trainer = training.Trainer(updater, (6, "iteration"), sys.argv[1])
trainer.extend(extensions.OneCycleShift("lr", 1.0, 6))
trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
trainer.extend(extensions.observe_lr(), trigger=(1, "iteration"))
trainer.run()
rates = comm.world().allgather_obj(optimizer.lr)
assert len(set(rates)) == 1, rates
comm.world().print(json.dumps([(e["lr"], e["main/loss"]) for e in trainer.get_extension("LogReport").log]))
"""


@pytest.mark.mpi
def test_all_ranks_train_at_the_same_rate(run_ranks, tmp_path):
    one, two = (json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n))).check().stdout) for n in (1, 2))
    assert [lr for lr, _ in one] == [lr for lr, _ in two]
    assert [loss for _, loss in one] == pytest.approx([loss for _, loss in two], rel=1e-5)
