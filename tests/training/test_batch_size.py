from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import optimizers, training
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator
from distrain.training import batch_size


class Slow(training.StandardUpdater):
    """Takes a time that is known: so many seconds, and some for each sample."""

    fixed, each = 0.004, 0.0002
    seen: list[int]

    def update_core(self):
        n = len(next(self.get_iterator("main")))
        self.seen = [*getattr(self, "seen", []), n]
        time.sleep(self.fixed + self.each * n)


def slow_updater(samples=100_000, cls=Slow, **more):
    data = np.zeros((samples, 2), np.float32)
    return cls(SerialIterator(data, 10), optimizers.SGD().setup(L.Linear(2, 1)), **more)


def test_ends_where_a_sample_takes_as_long_as_before():
    found = training.find_batch_size(slow_updater(), start=1, tolerance=0.2)
    assert found.reason == "time"
    assert found.sizes == [2**i for i in range(len(found.sizes))]
    assert len(found.seconds) == len(found.nbytes) == len(found.sizes)
    assert found.suggestion in (64, 128, 256, 512)  # 4 ms are worth 20 samples
    assert found.seconds[0] > 0.004
    assert min(found.seconds) >= 0.0002
    assert all(nbytes > 10_000_000 for nbytes in found.nbytes)


def test_ends_with_the_dataset_or_at_the_limit():
    found = training.find_batch_size(slow_updater(37), start=4)
    assert (found.reason, found.sizes) == ("dataset", [4, 8, 16, 32])
    found = training.find_batch_size(slow_updater(), start=4, most=20)
    assert (found.reason, found.sizes) == ("limit", [4, 8, 16])
    assert training.find_batch_size(slow_updater(3)).sizes == [3]


@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Adam])
@pytest.mark.parametrize("steps_before", [0, 4])
def test_the_training_that_follows_is_the_same(make_digits_trainer, make, steps_before):
    def train(looks):
        distrain.set_seed(7)
        net = distrain.Sequential(L.Linear(None, 20), L.BatchNormalization(20), F.relu, F.dropout, L.Linear(20, 10))
        trainer = make_digits_trainer((9, "iteration"), model=L.Classifier(net), optimizer=make())
        for _ in range(steps_before):
            trainer.updater.update()
        iterator = trainer.updater.get_iterator("main")
        if looks:
            assert training.find_batch_size(trainer.updater, steps=1, tolerance=0).sizes[:3] == [16, 32, 64]
            assert trainer.updater.iteration == steps_before
            assert trainer.updater.get_iterator("main") is iterator
        trainer.run()
        return [param.array for param in trainer.updater.get_optimizer("main").target.params()]

    for mine, theirs in zip(train(True), train(False), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_readers_are_not_told_of_the_steps(make_digits_trainer):
    trainer = make_digits_trainer()
    trainer.observation = {}
    training.find_batch_size(trainer.updater, most=16)
    assert trainer.observation == {}


class Hungry(Slow):
    """Has no memory for more than 100 samples."""

    def update_core(self):
        super().update_core()
        if self.seen[-1] > 100:
            np.empty(2**62, np.uint8)


def test_a_step_that_finds_no_memory():
    updater = slow_updater(cls=Hungry)
    found = training.find_batch_size(updater)
    assert (found.reason, found.sizes) == ("memory", [16, 32, 64])
    assert updater.get_iterator("main").batch_size == 10
    with pytest.raises(ArgumentError, match="not even a minibatch of 128 samples fits into the memory"):
        training.find_batch_size(updater, start=128)


LIMITED = """
import json, time
import numpy as np
import distrain.links as L
from distrain import optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import batch_size
from distrain.memory import Memory, memory, resident

limit = resident() + 250_000_000
batch_size.memory = lambda: Memory(limit, max(0, limit - resident()))  # as in a control group

class Wide(training.StandardUpdater):
    def update_core(self):
        n = len(next(self.get_iterator("main")))
        block = np.ones((n, 125_000))  # 1 MB a sample
        time.sleep(0.2)  # so that a larger minibatch is always worth it

updater = Wide(SerialIterator(np.zeros((100_000, 2), np.float32), 10), optimizers.SGD().setup(L.Linear(2, 1)))
found = training.find_batch_size(updater, start=8, steps=1, tolerance=0)
print(json.dumps([found.sizes, found.reason, found.nbytes]))
"""


def test_stops_before_the_memory_is_used_up():
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    sizes, reason, nbytes = json.loads(done.stdout)
    assert reason == "memory"
    assert sizes == [8, 16, 32, 64, 128]  # 256 MB would be more than nine tenths
    assert nbytes[-1] - nbytes[0] == pytest.approx(120e6, rel=0.4)


def trial(wanted, available=1000, host="a"):
    return batch_size._Trial(1.0, 0, wanted, available, host)


@pytest.mark.parametrize(
    ("trials", "fits"),
    [
        ([trial(800)], True),
        ([trial(950)], False),
        ([trial(500), trial(500)], False),  # two ranks of one machine
        ([trial(500), trial(500, host="b")], True),
        ([trial(5000, available=None)], True),
    ],
)
def test_ranks_of_a_machine_share_its_memory(trials, fits):
    assert batch_size._next_fits(trials) == fits


def test_bad_arguments(make_digits_trainer):
    updater = make_digits_trainer().updater
    for arguments in ({"start": 0}, {"steps": 0}, {"tolerance": 1}, {"start": 8, "most": 4}):
        with pytest.raises(ArgumentError, match="1 <= start <= most"):
            training.find_batch_size(updater, **arguments)
    with pytest.raises(ArgumentError, match="needs an updater with iterators over datasets"):
        training.find_batch_size(GivenNothing())


class GivenNothing(training.StandardUpdater):
    """An updater that has its data from elsewhere."""

    def __init__(self):
        pass

    comm = None


SCRIPT = """
import json, sys
import numpy as np
import distrain.links as L
from distrain import comm, datasets, optimizers, set_seed, training
from distrain.iterators import SerialIterator

class Hungry(L.Classifier):
    def forward(self, x, t):
        if sys.argv[2:] == ["hungry"] and comm.world().rank == 1 and len(x) > 30:
            np.empty(2**62, np.uint8)
        return super().forward(x, t)

set_seed(5)
train = datasets.SubDataset(datasets.get_digits()[0], 0, 300)
optimizer = optimizers.MomentumSGD(0.1).setup(Hungry(L.Linear(None, 10)))
updater = training.StandardUpdater(SerialIterator(train, 50), optimizer)
found = training.find_batch_size(updater, tolerance=0, steps=1)
everybody = comm.world().allgather_obj(found)
assert all(other == everybody[0] for other in everybody)
training.Trainer(updater, (3, "iteration"), sys.argv[1]).run()
weights = float(abs(optimizer.target.predictor.W.array).sum())
assert len(set(comm.world().allgather_obj(weights))) == 1
comm.world().print(json.dumps([found.sizes, found.reason, weights]))
"""


@pytest.mark.mpi
def test_all_ranks_find_the_same(run_ranks, tmp_path):
    told = [json.loads(run_ranks(SCRIPT, n, str(tmp_path / str(n))).check().stdout) for n in (1, 2, 3)]
    assert [sizes[:2] for sizes, _, _ in told] == [[16, 32]] * 3
    assert {reason for _, reason, _ in told} <= {"time", "dataset"}
    assert told[1][2] == pytest.approx(told[0][2], rel=1e-5)
    assert told[2][2] == pytest.approx(told[0][2], rel=1e-5)


@pytest.mark.mpi
def test_one_rank_without_memory_leaves_no_other_waiting(run_ranks, tmp_path):
    sizes, reason, _ = json.loads(run_ranks(SCRIPT, 2, str(tmp_path / "out"), "hungry").check().stdout)
    assert (sizes, reason) == ([16, 32], "memory")  # 32 for each of the two is too much
