from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
import distrain.links as L
from distrain import config, datasets, minibatch
from distrain.errors import ArgumentError, WorldError
from distrain.iterators import SerialIterator
from distrain.reporting import Reporter, report
from distrain.training import extensions


class Mean(L.Link):
    """Reports the mean of what it gets, and what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list = []

    def forward(self, x):
        assert not config.train
        assert not config.enable_backprop
        self.seen.append(x.copy())
        report({"mean": F.mean(x)}, self)


def numbers(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float32)


def once(dataset, batch_size: int, **kwargs) -> SerialIterator:
    return SerialIterator(dataset, batch_size, repeat=False, shuffle=False, **kwargs)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 100])
def test_every_sample_counts_once(batch_size):
    model = Mean()
    assert extensions.Evaluator(once(numbers(10), batch_size), model)() == {"main/mean": 4.5}
    np.testing.assert_array_equal(np.concatenate(model.seen), numbers(10))
    assert config.train
    assert config.enable_backprop


def test_can_be_called_again():
    evaluator = extensions.Evaluator(once(numbers(10), 4), Mean())
    assert evaluator() == evaluator() == {"main/mean": 4.5}


def test_an_iterator_that_cannot_be_reset_is_copied():
    class Batches:
        def __init__(self) -> None:
            self.left = [numbers(2), numbers(4)]

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            batch, self.left = self.left[0], self.left[1:]
            return batch

    evaluator = extensions.Evaluator(Batches(), Mean(), converter=lambda batch, device: batch)
    expected = pytest.approx((1 + 6) / 6)
    assert evaluator() == {"main/mean": expected}
    assert evaluator() == {"main/mean": expected}


def test_reports_under_its_name_in_a_trainer(make_digits_trainer, digits):
    trainer = make_digits_trainer((2, "iteration"))
    model = trainer.updater.get_optimizer("main").target
    for name in (None, None, "held-out"):
        iterator = once(datasets.SubDataset(digits[1], 0, 30), 7)
        trainer.extend(extensions.Evaluator(iterator, model), name=name, trigger=(2, "iteration"))
    trainer.run()
    values = {key: value for key, value in trainer.observation.items() if not key.startswith("main")}
    assert set(values) == {
        f"{name}/main/{key}" for name in ("validation", "validation_1", "held-out") for key in ("loss", "accuracy")
    }
    x, t = (np.stack(column) for column in zip(*(digits[1][i] for i in range(30)), strict=True))
    loss = float(F.softmax_cross_entropy(model.predictor(x), t).array)
    assert values["validation/main/loss"] == pytest.approx(loss, rel=1e-5)


def test_runs_once_an_epoch_by_default(make_digits_trainer, digits):
    calls = []
    trainer = make_digits_trainer((2, "epoch"), samples=200)
    model = trainer.updater.get_optimizer("main").target
    iterator = once(datasets.SubDataset(digits[1], 0, 5), 5)
    trainer.extend(
        extensions.Evaluator(iterator, model, eval_hook=lambda evaluator: calls.append(trainer.updater.iteration))
    )
    trainer.run()
    assert calls == [2, 4]


def test_eval_func_several_targets_and_own_converter():
    first, second = Mean(), Mean()

    def function(x):
        first(x)
        second(10 * x)

    evaluator = extensions.Evaluator(
        {"main": once(numbers(4), 3)},
        {"main": first, "other": second},
        converter=lambda batch, device: {"x": np.array(batch) + device},
        device=1,
        eval_func=function,
    )
    evaluator.name = "test"
    assert evaluator() == {"test/main/mean": 2.5, "test/other/mean": 25.0}
    assert evaluator.get_target("other") is second
    assert evaluator.get_iterator("main").batch_size == 3


def test_evaluate_can_be_overridden():
    class Constant(extensions.Evaluator):
        def evaluate(self):
            return {"constant": 3.0}

    observation: dict = {}
    reporter = Reporter()
    with reporter, reporter.scope(observation):
        assert Constant(once(numbers(4), 3), Mean())() == {"constant": 3.0}
    assert observation == {"constant": 3.0}


def test_the_minibatch_of_the_training_is_the_current_one_afterwards():
    share = minibatch.Share(3, 0, 2, 5)
    minibatch.announce(share)
    extensions.Evaluator(once(numbers(10), 3), Mean())()
    assert minibatch.current() is share


def test_an_iterator_without_end_is_refused():
    with pytest.raises(ArgumentError, match="'main' of an Evaluator never ends; make it with repeat=False"):
        extensions.Evaluator(SerialIterator(numbers(4), 2), Mean())


def test_samples_that_were_not_seen_are_an_error():
    class Loses(SerialIterator):
        def __next__(self):
            batch = super().__next__()
            return super().__next__() if self.current_position == 2 else batch

    evaluator = extensions.Evaluator(Loses(numbers(10), 2, repeat=False, shuffle=False), Mean())
    with pytest.raises(WorldError, match=r"has seen 8 samples where there are 10 \(rank 0: 8 of 10\)"):
        evaluator()


def test_an_order_sampler_may_choose_samples():
    iterator = SerialIterator(
        numbers(10), 3, repeat=False, order_sampler=lambda order, position: np.array([1, 3, 5, 7])
    )
    assert extensions.Evaluator(iterator, Mean())() == {"main/mean": 4.0}


SCRIPT = """
import numpy as np
import distrain.functions as F
import distrain.links as L
from distrain import comm
from distrain.iterators import SerialIterator
from distrain.reporting import report
from distrain.training import extensions

class Mean(L.Link):
    def forward(self, x):
        report({"mean": F.mean(x)}, self)

world = comm.world()
numbers = lambda n: np.arange(n, dtype=np.float32)
once = lambda dataset, n, **kw: SerialIterator(dataset, n, repeat=False, shuffle=False, **kw)
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n", [2, 3, 4])
def test_exact_on_several_ranks(run_ranks, n):
    script = (
        SCRIPT
        + """
for samples in (1, 3, 10, 23):
    for batch_size in (1, 3, 8, 100):
        iterator = once(numbers(samples), batch_size, comm=world)
        mean = extensions.Evaluator(iterator, Mean())()["main/mean"]
        assert abs(mean - (samples - 1) / 2) < 1e-6, (samples, batch_size, mean)
        assert len(set(world.allgather_obj(mean))) == 1
"""
    )
    run_ranks(script, n, env={"PYTHONWARNINGS": "ignore"}).check()


@pytest.mark.mpi
def test_ranks_with_data_of_their_own(run_ranks):
    script = (
        SCRIPT
        + """
mine = numbers(5)[:3] if world.rank == 0 else numbers(5)[3:]
assert extensions.Evaluator(once(mine, 2, comm=comm.local()), Mean())() == {"main/mean": 2.0}
"""
    )
    run_ranks(script, 2).check()


@pytest.mark.mpi
def test_an_evaluation_that_misses_samples_is_an_error_on_every_rank(run_ranks):
    script = (
        SCRIPT
        + """
from distrain.errors import WorldError
evaluator = extensions.Evaluator(once(numbers(10), 4, comm=world), Mean())
evaluator.comm = comm.local()    # as if the others had not registered it
try:
    evaluator()
except WorldError as error:
    assert "has seen 5 samples where there are 10 (rank 0: 5 of 10)" in str(error), error
else:
    raise AssertionError("no error")
"""
    )
    run_ranks(script, 2).check()


@pytest.mark.mpi
def test_running_statistics_are_averaged_before(run_ranks):
    script = (
        SCRIPT
        + """
class Statistics(L.Link):
    def __init__(self):
        super().__init__()
        self.add_persistent("mean", np.full(2, float(world.rank), np.float32))
        self.add_persistent("count", np.full((), world.rank))
    def forward(self, x):
        report({"mean": self.mean[0]}, self)

model = Statistics()
assert extensions.Evaluator(once(numbers(4), 4), model)() == {"main/mean": 1.0}
np.testing.assert_array_equal(model.mean, [1.0, 1.0])
assert model.count == world.rank
"""
    )
    run_ranks(script, 3).check()
