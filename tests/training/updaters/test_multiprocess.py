from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import datasets, optimizers, serializers, training
from distrain.errors import ArgumentError, TransferError, WorkerError
from distrain.iterators import MultiprocessIterator, SerialIterator
from distrain.training import MultiprocessParallelUpdater, extensions

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it

_SOON_S = 30.0  # the machine may be busy; what is tested is that it happens


class Net(L.Chain):
    """Parameters that get their size late; notes a digest of them, and the process, at each step."""

    def __init__(self, notes=None) -> None:
        super().__init__()
        self.notes = notes
        with self.init_scope():
            self.hidden = L.Linear(None, 12)
            self.out = L.Linear(None, 10)

    def forward(self, x):
        if self.notes is not None and self.out.W.is_initialized and distrain.config.train:
            digest = zlib.crc32(b"".join([np.ascontiguousarray(p.array).tobytes() for p in self.params()]))
            with open(os.path.join(self.notes, str(os.getpid())), "a") as file:
                file.write(f"{digest}\n")
        return self.out(F.relu(self.hidden(x)))


class Noisy(L.Chain):
    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.hidden = L.Linear(64, 12)
            self.norm = L.BatchNormalization(12)
            self.out = L.Linear(12, 10)

    def forward(self, x):
        return self.out(F.dropout(F.relu(self.norm(self.hidden(x)))))


class Fragile(L.Chain):
    """Raises, or holds a worker up, at a step, in the process of one device."""

    def __init__(self, main=False, waits=False) -> None:
        super().__init__()
        self.main, self.pid, self.steps, self.waits = main, os.getpid(), 0, waits
        with self.init_scope():
            self.out = L.Linear(64, 10)

    def forward(self, x):
        self.steps += 1
        if self.steps == 3 and self.main == (os.getpid() == self.pid):
            if self.waits:
                time.sleep(600)
            raise KeyError("no such thing")
        return self.out(x)


def parts(digits, count):
    return [datasets.SubDataset(digits[0], 100 * i, 100 * i + 90) for i in range(count)]


def iterators(digits, sizes):
    return [SerialIterator(part, size, seed=1) for part, size in zip(parts(digits, len(sizes)), sizes, strict=True)]


def params(model):
    return np.concatenate([param.array.ravel() for param in model.params()])


@pytest.fixture
def make(digits):
    """Updaters of which none is left behind."""
    made = []

    def make_updater(model=None, sizes=(6, 6), optimizer=None, devices=None, its=None, **kwargs):
        optimizer = (optimizer or optimizers.SGD(0.1)).setup(L.Classifier(Net() if model is None else model))
        its = its or iterators(digits, sizes)
        made.append(MultiprocessParallelUpdater(its, optimizer, devices=devices or (-1,) * len(its), **kwargs))
        return made[-1]

    yield make_updater
    for updater in made:
        updater.finalize()


def model_of(updater):
    return updater.get_optimizer("main").target


def pids(updater):
    return [worker.process.pid for worker in updater._workers._workers]


@pytest.mark.parametrize(
    ("sizes", "devices"),
    [((7,), ("@numpy",)), ((8, 8), {"second": "cpu:1", "main": "cpu:0"}), ((7, 5, 2), (-1, "@numpy", "cpu:1"))],
    ids=["one", "two", "three"],
)
def test_trains_as_one_process_with_the_big_batch(make, digits, tmp_path, sizes, devices):
    updater = make(Net(tmp_path), sizes, optimizers.MomentumSGD(0.05), devices)
    twin = L.Classifier(Net())
    optimizer = optimizers.MomentumSGD(0.05).setup(twin)
    twins = iterators(digits, sizes)
    for one in (twin, model_of(updater)):
        one(*updater.converter(digits[0][:2]))
    twin.copyparams(model_of(updater))
    losses, expected = [], []
    reporter = distrain.Reporter()
    for _ in range(20):
        with reporter.scope(observation := {}), reporter:
            updater.update()
        losses.append(observation["main/loss"])
        optimizer.update(twin, *updater.converter([sample for one in twins for sample in next(one)]))
        expected.append(float(twin.loss.array))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(params(model_of(updater)), params(twin), rtol=1e-5, atol=1e-6)
    assert (updater.iteration, updater.epoch) == (20, twins[0].epoch)
    notes = [path.read_text().split()[-20:] for path in tmp_path.iterdir()]
    assert len(notes) == len(sizes)
    assert all(digests == notes[0] for digests in notes)  # the same bits in all processes, at every step
    assert len(set(notes[0])) == 20


class MyAdam(optimizers.Adam):
    """Chainer changed the hyperparameters of its own classes, and left those of subclasses alone."""


def in_dtype(batch, device=None):
    x, t = distrain.dataset.concat_examples(batch, device)
    return x.astype(distrain.config.dtype), t


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 2e-2), (np.float32, 1e-4), (np.float64, 1e-10)])
def test_hooks_see_the_mean_of_the_big_batch_in_the_dtype_of_the_parameters(make, digits, dtype, tolerance):
    with distrain.using_config("dtype", dtype):
        updater = make(Net(), (6, 3), MyAdam(0.01, eps=1e-3), converter=in_dtype)
        optimizer = MyAdam(0.01, eps=1e-3).setup(L.Classifier(Net()))
        mine, twin = model_of(updater), optimizer.target
        for one in (mine, twin):
            one(*in_dtype(digits[0][:2]))
        twin.copyparams(mine)
        for each in (optimizer, updater.get_optimizer("main")):
            each.add_hook(distrain.optimizer_hooks.WeightDecay(0.1))
            each.add_hook(distrain.optimizer_hooks.GradientClipping(0.5))
        its = iterators(digits, (6, 3))
        for _ in range(5):
            updater.update()
            optimizer.update(twin, *in_dtype([sample for one in its for sample in next(one)]))
    assert {param.dtype for param in mine.params()} == {np.dtype(dtype)}
    np.testing.assert_allclose(params(mine), params(twin), rtol=tolerance, atol=tolerance)


def test_examples_that_are_dicts_become_keywords(make, digits):
    updater = make(sizes=(6, 6), converter=as_dict)
    model = model_of(updater)
    model.label_key = "t"
    for _ in range(2):
        updater.update()
    assert model.predictor.hidden.W.update_rule.t == 2


def as_dict(batch, device):
    x, t = distrain.dataset.concat_examples(batch, device)
    return {"x": x, "t": t}


def test_is_repeatable_and_keeps_the_running_statistics_of_the_main_process(make, digits):
    results = []
    for _ in range(2):
        distrain.rng.set_seed(5)
        updater = make(Noisy(), (8, 8), optimizers.Adam())
        first = updater.converter(next(iterators(digits, (8, 8))[0]))[0]
        twin = model_of(updater).copy("copy")
        twin.predictor.norm(twin.predictor.hidden(first))
        updater.update()
        np.testing.assert_allclose(model_of(updater).predictor.norm.avg_mean, twin.predictor.norm.avg_mean, rtol=1e-5)
        for _ in range(4):
            updater.update()
        results.append(params(model_of(updater)))
    np.testing.assert_array_equal(*results)


def test_hyperparameters_hooks_and_switches_may_change_while_it_trains(make, tmp_path):
    updater = make(Net(tmp_path))
    optimizer = updater.get_optimizer("main")
    assert not optimizer.target.predictor.hidden.W.is_initialized  # they get their sizes in the first step
    updater.update()
    optimizer.lr = 0.0
    before = params(optimizer.target)
    updater.update()
    np.testing.assert_array_equal(params(optimizer.target), before)
    optimizer.lr = 0.1
    optimizer.add_hook(distrain.optimizer_hooks.WeightDecay(1.0))
    optimizer.target.predictor.out.b.array += 1.0  # as an extension may do
    with distrain.using_config("train", False):
        updater.update()
    updater.update()
    lengths, digests = zip(*[(len(d), d[-1]) for d in (p.read_text().split() for p in tmp_path.iterdir())], strict=True)
    assert sorted(lengths) == [2, 3]  # this process knows no digest before the parameters have their sizes
    assert len(set(digests)) == 1


def test_a_trainer_logs_evaluates_saves_and_resumes(make, digits, tmp_path):
    def trainer_of(out):
        distrain.rng.set_seed(2)
        updater = make(Noisy(), (20, 15), optimizers.Adam())
        trainer = training.Trainer(updater, (8, "iteration"), out=tmp_path / out)
        trainer.extend(extensions.Evaluator(SerialIterator(digits[1], 100, False, False), model_of(updater)))
        trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
        trainer.extend(extensions.ExponentialShift("alpha", 0.9), trigger=(1, "iteration"))
        trainer.extend(extensions.snapshot(filename="at_{.updater.iteration}"), trigger=(3, "iteration"))
        return trainer

    whole = trainer_of("whole")
    whole.run()
    log = whole.get_extension("LogReport").log
    assert [entry["iteration"] for entry in log] == list(range(1, 9))
    assert "validation/main/accuracy" in log[4]
    assert whole.updater.epoch == 1
    resumed = trainer_of("resumed")
    serializers.load_npz(tmp_path / "whole" / "at_3", resumed)
    resumed.run()
    np.testing.assert_array_equal(params(model_of(resumed.updater)), params(model_of(whole.updater)))
    assert [entry["main/loss"] for entry in resumed.get_extension("LogReport").log] == [e["main/loss"] for e in log]


def test_state_is_read_while_workers_run_and_written_after_they_have_ended(make, tmp_path):
    updater = make()
    updater.update()
    serializers.save_npz(tmp_path / "one", updater)
    updater.update()
    then = params(model_of(updater))
    updater.finalize()
    updater.finalize()
    serializers.save_npz(tmp_path / "two", updater)
    other = make()
    for _ in range(3):
        other.update()
    serializers.load_npz(tmp_path / "one", other)
    other.update()
    np.testing.assert_array_equal(params(model_of(other)), then)
    serializers.load_npz(tmp_path / "two", other)
    assert other.iteration == 2
    updater.update()  # with new workers, which go on where the old ones were
    other.update()
    np.testing.assert_array_equal(params(model_of(other)), params(model_of(updater)))


def test_a_file_that_knows_one_iterator_is_read(make, digits, tmp_path):
    standard = training.StandardUpdater(SerialIterator(parts(digits, 1)[0], 6, seed=1), make().get_optimizer("main"))
    standard.update()
    serializers.save_npz(tmp_path / "standard", standard)
    updater = make()
    with pytest.warns(UserWarning, match="iterator:1"):
        serializers.load_npz(tmp_path / "standard", updater)
    assert updater.iteration == 1


def test_an_iterator_with_processes_of_its_own(make, digits):
    one, two = iterators(digits, (6, 6))
    updater = make(Noisy(), its=[one, MultiprocessIterator(two.dataset, 6, seed=1, n_processes=1)])
    updater.update()
    assert updater._others["1"]._feed is None  # those of this process have ended
    updater.finalize()
    assert updater._others["1"].current_position == 6


def test_a_killed_worker_is_named(make):
    updater = make(sizes=(4, 4, 4))
    updater.update()
    others = pids(updater)
    os.kill(others[1], signal.SIGKILL)
    with pytest.raises(WorkerError, match=rf"worker 2 \(device -1, pid {others[1]}\) was killed by SIGKILL"):
        updater.update()
    assert not any(Path(f"/proc/{pid}").exists() for pid in others)
    with pytest.raises(WorkerError, match="was killed by SIGKILL\nThe workers of this updater have ended"):
        updater.update()
    updater.finalize()
    with pytest.raises(WorkerError, match="was killed by SIGKILL\nThe places of their iterators are lost"):
        updater.update()


def test_a_worker_that_is_killed_at_work_is_noticed(make):
    updater = make(Fragile(waits=True))
    for _ in range(2):
        updater.update()
    script = f"""import os, time
time.sleep(0.3)
print(time.monotonic())
os.kill({pids(updater)[0]}, {int(signal.SIGKILL)})"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as killer:
        with pytest.raises(WorkerError, match="was killed by SIGKILL"):
            updater.update()
        noticed = time.monotonic()
        killed, _ = killer.communicate(timeout=_SOON_S)
    assert noticed - float(killed) < 10  # it is milliseconds; the machine may be busy


def test_an_exception_in_a_worker_comes_with_its_traceback(make):
    updater = make(Fragile())
    for _ in range(2):
        updater.update()
    (pid,) = pids(updater)
    with pytest.raises(WorkerError, match=rf"worker 1 \(device -1, pid {pid}\) raised KeyError: 'no such") as caught:
        updater.update()
    assert 'raise KeyError("no such thing")' in str(caught.value)
    assert "in forward" in str(caught.value)


def test_a_trainer_ends_the_workers_when_the_main_process_raises(make, tmp_path):
    updater = make(Fragile(main=True))
    trainer = training.Trainer(updater, (9, "iteration"), out=tmp_path)
    seen = []
    trainer.extend(lambda t: seen.append(pids(updater)), name="look")
    with pytest.raises(KeyError, match="no such thing"):
        trainer.run(show_loop_exception_msg=False)
    assert len(seen) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen[0])


def test_a_step_that_was_broken_off_can_be_made_again(make):
    updater = make(Fragile(main=True))
    for _ in range(2):
        updater.update()
    with pytest.raises(KeyError):
        updater.update()
    updater.update()
    assert updater.iteration == 3


def test_an_iterator_of_a_worker_that_ends(make, digits):
    one, two = iterators(digits, (6, 6))
    updater = make(its=[one, SerialIterator(two.dataset, 45, repeat=False)])
    for _ in range(2):
        updater.update()
    with pytest.raises(WorkerError, match=r"the iterator of worker 1 .* has no more minibatches"):
        updater.update()


def test_what_cannot_travel_is_named(make):
    lock = threading.Lock()
    updater = make(Noisy(), converter=lambda batch, device: lock)
    with pytest.raises(TransferError, match=r"training cannot travel to the processes of the other devices: training"):
        updater.update()


def test_arguments(make, digits):
    optimizer = optimizers.SGD().setup(L.Classifier(Net()))
    one, two = iterators(digits, (6, 6))
    for its, devices, message in (
        ([one, two], None, "needs devices"),
        ([one, two], {"first": -1, "second": -1}, "must be called 'main'; the names are 'first', 'second'"),
        ([one], (-1, -1), "2 devices need as many different iterators, not 1"),
        ([one, one], (-1, -1), "2 devices need as many different iterators, not 1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            MultiprocessParallelUpdater(its, optimizer, devices=devices)
    with pytest.raises(distrain.errors.DeviceError):
        MultiprocessParallelUpdater([one, two], optimizer, devices=(-1, "nowhere"))
    with pytest.raises(ArgumentError, match="set accumulate to 1"):
        MultiprocessParallelUpdater([one, two], optimizer.setup(optimizer.target, accumulate=2), devices=(-1, -1))
    other = optimizers.SGD().setup(L.Classifier(Net()))
    with pytest.raises(ArgumentError, match="one optimizer, called 'main'; the names are 'main', 'second'"):
        MultiprocessParallelUpdater([one, two], {"main": optimizer, "second": other}, devices=(-1, -1))
    updater = make()
    assert (updater.epoch, updater.epoch_detail, updater.is_new_epoch) == (0, 0.0, False)
    assert updater.previous_epoch_detail is None


def test_is_available_in_a_script_of_one_process(monkeypatch):
    assert MultiprocessParallelUpdater.available()
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert not MultiprocessParallelUpdater.available()
