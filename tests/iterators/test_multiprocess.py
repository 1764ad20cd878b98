"""What a user of MultiprocessIterator sees: arguments, contract, errors, lifecycle."""

import copy
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from contextlib import closing

import cloudpickle
import numpy as np
import pytest

from distrain.dataset import concat_examples
from distrain.datasets import TransformDataset
from distrain.errors import ArgumentError, DatasetError, FeedError, SampleError, TransferError
from distrain.iterators import MultiprocessIterator, SerialIterator
from distrain.iterators.multiprocess import TimeoutWarning
from distrain.serializers import load_npz, save_npz

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # feeders cannot import it

N = 20


def plain(i):
    return np.full(3, i, np.float32), i


def made(function=plain, batch_size=4, **options):
    options = {"n_processes": 1, "seed": 5, "shuffle": False, **options}
    iterator = MultiprocessIterator(TransformDataset(range(N), function), batch_size, **options)
    iterator.close = iterator.finalize
    return closing(iterator)


def indices(batch):
    return [int(i) for i in concat_examples(batch)[1]]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_processes": 0}, "n_processes must be a positive integer, not 0"),
        ({"n_processes": 1.5}, "n_processes must be a positive integer, not 1.5"),
        ({"n_prefetch": -1}, "n_prefetch must be an integer of at least 0, not -1"),
        ({"shared_mem": 0}, "shared_mem must be a positive integer"),
        ({"maxtasksperchild": 0}, "maxtasksperchild must be a positive integer"),
        ({"dataset_timeout": 0}, "dataset_timeout must be a positive number of seconds or None, not 0"),
        ({"sample_timeout": "1"}, "sample_timeout must be a positive number"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'skip'"),
    ],
    ids=str,
)
def test_arguments(option, message):
    with pytest.raises(ArgumentError, match=message):
        MultiprocessIterator(range(N), 4, **option)


class TestContract:
    def test_not_repeating_ends_and_starts_again(self):
        with made(batch_size=8, repeat=False) as iterator:
            assert [len(batch) for batch in iterator] == [8, 8, 4]
            with pytest.raises(StopIteration):
                iterator.next()
            iterator.reset()
            assert indices(iterator.next()) == list(range(8))
            iterator.reset()  # in the middle of the epoch
            assert [i for batch in iterator for i in indices(batch)] == list(range(N))

    def test_resets_in_mid_epoch_with_ragged_samples(self):
        with made(lambda i: (np.full(1 + i % 5, i), i)) as iterator:
            for _ in range(12):
                assert [i for _, i in iterator.next()] == [0, 1, 2, 3]
                assert [len(x) for x, _ in iterator.next()] == [5, 1, 2, 3]
                iterator.reset()
            assert iterator.stats()["refused"] == iterator.stats()["respawns"] == 0

    def test_many_batches_that_are_kept_stay_as_they_are(self):
        with made() as iterator:
            held = [concat_examples(iterator.next()) for _ in range(40)]
            for k, (x, t) in enumerate(held):
                assert t.tolist() == [(4 * k + j) % N for j in range(4)]
                assert (x == t[:, None]).all()
        for x, t in held:  # after the end of the processes, too
            assert (x == t[:, None]).all()
            x += 1

    def test_another_seed_comes_with_a_file(self, tmp_path):
        with made(shuffle=None, seed=1) as first, made(shuffle=None, seed=2) as second:
            first.next()
            save_npz(tmp_path / "i.npz", first)
            second.next()
            load_npz(tmp_path / "i.npz", second)
            assert [indices(second.next()) for _ in range(9)] == [indices(first.next()) for _ in range(9)]

    @pytest.mark.parametrize("clone", [copy.copy, lambda iterator: pickle.loads(cloudpickle.dumps(iterator))])
    def test_copies_go_their_own_way(self, clone):
        with made() as iterator:
            iterator.next()
            del iterator.close
            other = clone(iterator)
            iterator.close = iterator.finalize
            expected = [indices(iterator.next()) for _ in range(3)]
            assert (
                [indices(other.next()) for _ in range(3)]
                == expected
                == [[4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
            )
            other.finalize()

    def test_processes_are_replaced_after_so_many_tasks(self):
        options = {"maxtasksperchild": 3, "repeat": False, "batch_size": 2, "n_processes": 2}
        with made(lambda i: (np.int64(os.getpid()), i), **options) as iterator:
            seen = [(int(pid), i) for batch in iterator for pid, i in batch]
            assert [i for _, i in seen] == list(range(N))
            assert len({pid for pid, _ in seen}) > 2
            assert iterator.stats()["respawns"] == iterator.stats()["refused"] == 0


class Own(Exception):
    pass


def broken(error):
    def read(i):
        if i == 6:
            raise error
        return plain(i)

    return read


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (OSError(2, "gone"), FileNotFoundError),
            (ValueError("no"), ValueError),
            (KeyError("key"), KeyError),
            (IndexError("range"), IndexError),
            (Own("mine"), SampleError),
            (SystemExit(3), SampleError),
            (StopIteration(), (DatasetError, SampleError)),
        ],
        ids=repr,
    )
    def test_come_at_their_place_and_nothing_is_lost(self, error, kind):
        with made(broken(error), n_processes=2) as iterator:
            assert indices(iterator.next()) == [0, 1, 2, 3]
            for _ in range(2):
                with pytest.raises(kind) as info:
                    iterator.next()
                notes = "\n".join([str(info.value), *info.value.__notes__])
                assert "sample 6 of TransformDataset (epoch 0)" in notes
                assert "in a feeder:\nTraceback" in notes
                assert "in read" in notes
                assert iterator.current_position == 4

    def test_samples_can_be_skipped(self):
        with made(broken(ValueError("no")), on_error="skip") as iterator:
            with pytest.warns(UserWarning, match=r"sample 6 of .* replaced by sample 7: ValueError: no"):
                found = [indices(iterator.next()) for _ in range(2)]  # it may be read with the first one
            assert found[1] == [4, 5, 7, 7]
            assert iterator.skipped == iterator.stats()["skipped"] == 1

    def test_mixed_shapes_name_the_sample(self):
        with made(lambda i: np.zeros(2 if i == 6 else 3)) as iterator:
            concat_examples(iterator.next())
            with pytest.raises(DatasetError, match=r"sample 6 of the dataset\) has shape \(2,\)"):
                concat_examples(iterator.next())
            concat_examples(iterator.next())

    def test_what_cannot_travel(self):
        lock = threading.Lock()
        with pytest.raises(TransferError, match="variable lock is a _thread.lock"):
            MultiprocessIterator(TransformDataset(range(N), lambda i: (i, lock)), 4, n_processes=1)

    def test_use_after_the_end(self):
        with made() as iterator:
            iterator.next()
        iterator.finalize()
        with pytest.raises(FeedError, match="closed"):
            iterator.next()

    def test_two_threads(self):
        def slow(i):
            time.sleep(0.2)
            return plain(i)

        with made(slow) as iterator:
            thread = threading.Thread(target=iterator.next)
            thread.start()
            time.sleep(0.05)
            with pytest.raises(FeedError, match="two threads"):
                iterator.next()
            thread.join()
            assert indices(iterator.next()) == [4, 5, 6, 7]

    def test_a_wait_that_takes_long_is_told(self):
        def slow(i):
            time.sleep(0.8 if i == 6 else 0)
            return plain(i)

        with made(slow, dataset_timeout=0.1) as iterator, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert [indices(iterator.next()) for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert {warning.category for warning in caught} == {TimeoutWarning}
        assert any("reads sample 6 (epoch 0) since 0" in str(warning.message) for warning in caught)

    def test_interrupted_while_it_waits(self):
        def slow(i):
            time.sleep(0.15)
            return plain(i)

        def interrupt(*_):
            raise KeyboardInterrupt

        serial = SerialIterator(TransformDataset(range(N), plain), 4, shuffle=False)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with made(slow) as iterator:
                for delay in (0.01, 0.3):
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    with pytest.raises(KeyboardInterrupt):
                        list(iterator)
                    serial.epoch, serial.current_position = iterator.epoch, iterator.current_position
                assert iterator.next() == serial.next()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


SCRIPT = """
import os, sys, warnings
import numpy as np
from distrain.iterators import MultiprocessIterator

class Squares:  # of the script, which feeders cannot import
    def __len__(self):
        return 10
    def __getitem__(self, i):
        return np.int64(i * i)

iterator = MultiprocessIterator(Squares(), 5, n_processes=1, shuffle=False)
assert [int(x) for x in iterator.next()] == [0, 1, 4, 9, 16]
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    try:
        iterator.next()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
        sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert [int(x) for x in iterator.next()] == [25, 36, 49, 64, 81]
print("passed")
"""


def test_a_class_of_the_script_and_a_fork(run_ranks):
    result = run_ranks(SCRIPT, 1).check()
    assert "FeedError this iterator belongs to the process that this one was forked from" in result.stdout
    assert "passed" in result.stdout


TRAINING = """
import sys, tempfile
import numpy as np
import distrain
import distrain.functions as F
import distrain.links as L
from distrain import training
from distrain.iterators import MultiprocessIterator, SerialIterator

def trained(make):
    distrain.rng.set_seed(3)
    model = L.Classifier(L.Linear(64, 10))
    optimizer = distrain.optimizers.Adam()
    optimizer.setup(model)
    train, _ = distrain.datasets.get_digits()
    updater = training.StandardUpdater(make(train), optimizer)
    training.Trainer(updater, (1, "epoch"), out=tempfile.mkdtemp()).run()
    return [param.array.copy() for param in model.params()]

serial = trained(lambda train: SerialIterator(train, 100))
feeders = trained(lambda train: MultiprocessIterator(train, 100, n_processes=2))
assert len(serial) == 2
assert all(np.array_equal(a, b) for a, b in zip(serial, feeders, strict=True))
print("passed", flush=True)
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 2])
def test_training_gives_the_same_parameters(run_ranks, n):
    assert run_ranks(TRAINING, n).check().stdout.count("passed") == n
