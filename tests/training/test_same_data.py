"""Ranks that would share minibatches of different datasets are told so before they train."""

import numpy as np
import pytest

from distrain import datasets
from distrain.training.same_data import facts

SCRIPT = """
import sys
import numpy as np
import distrain.links as L
from distrain import comm, datasets, multi_node, optimizers, training
from distrain.iterators import SerialIterator

world = comm.world()
x = np.arange(40, dtype=np.float32).reshape(20, 2)
t = np.zeros(20, np.int32)
case = sys.argv[1]
if case == "length" and world.rank == 1:
    x, t = x[:18], t[:18]
if case == "order" and world.rank == 1:
    x = x[::-1].copy()
data = datasets.TupleDataset(x, t)
if case == "class":
    data = [(x[i], t[i]) for i in range(20)] if world.rank == 1 else data
if case == "scattered":
    data = multi_node.scatter_dataset(data if world.rank == 0 else None, world)
optimizer = optimizers.SGD().setup(L.Classifier(L.Linear(2, 3)))
updater = training.StandardUpdater(SerialIterator(data, 4), optimizer)
training.Trainer(updater, (2, "iteration"), sys.argv[2]).run()
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("length", "the dataset of iterator 'main': length 18 on rank 1, but 20 on rank 0"),
        ("order", "the dataset of iterator 'main': checksum"),
        ("class", "the dataset of iterator 'main': class list on rank 1, but TupleDataset on rank 0"),
    ],
)
def test_different_data_is_refused(run_ranks, tmp_path, case, words):
    result = run_ranks(SCRIPT, 2, case, str(tmp_path))
    assert result.returncode == 1
    assert words in result.stderr


@pytest.mark.mpi
@pytest.mark.parametrize("case", ["same", "scattered"])
def test_the_same_data_and_data_of_its_own_is_not(run_ranks, tmp_path, case):
    run_ranks(SCRIPT, 2, case, str(tmp_path)).check()


class Images:
    def __len__(self):
        return 7

    def __getitem__(self, i):
        raise AssertionError("no sample is read")


def test_facts_cost_no_reading_of_samples():
    assert facts(Images()) == {"class": "Images", "length": "7", "checksum": "unknown"}
    x = np.arange(6, dtype=np.float32)
    assert facts(x) == facts(x.copy())
    assert facts(x)["checksum"] != facts(x.astype(np.float64))["checksum"]
    assert facts(datasets.TupleDataset(x, x))["checksum"].endswith("of samples 0, 3 and 5")
    assert facts(x[:0])["checksum"] == "unknown"
