"""A dataset arrives as it was, its big arrays are shared, and what cannot travel is named."""

import fcntl
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from distrain.datasets import TransformDataset
from distrain.errors import TransferError
from distrain.iterators.feed.shipment import ship, unship

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def sent():
    """Ships an object and unships it, in this process."""
    fds = []

    def sent(cargo):
        fds.append(ship(cargo, "dataset"))
        return unship(fds[-1])

    yield sent
    for fd in fds:
        os.close(fd)


def is_same(a, b):
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b) and a.dtype == b.dtype
    return a == b


@pytest.mark.parametrize(
    "cargo",
    [
        None,
        {"a": [1, (2, "x")], 3: b"y"},
        np.empty(0),
        np.arange(5),
        np.arange(300_000, dtype=np.float32).reshape(300, 1000),
        np.asfortranarray(np.random.default_rng(0).random((500, 700))),
        np.arange(100_000)[::3],
        np.array(["a", None], object),
        b"x" * 5_000_000,
    ],
    ids=lambda cargo: type(cargo).__name__,
)
def test_round_trip(sent, cargo):
    assert is_same(sent(cargo), cargo)


def test_many_arrays(sent):
    arrays = [np.full(10_000 + i, i) for i in range(50)]
    for found, expected in zip(sent(arrays), arrays, strict=True):
        assert is_same(found, expected)


def test_one_array_in_two_places_stays_one(sent):
    array = np.arange(50_000)
    first, second = sent((array, [array]))[0], sent((array, [array]))[1][0]
    assert is_same(first, second)
    found = sent((array, [array]))
    assert np.shares_memory(found[0], found[1][0])


def test_code_knows_its_file(sent):
    function = sent(lambda: lambda: None)
    assert [f.__code__.co_filename for f in (function, function())] == [__file__] * 2


def test_what_is_written_stays_ones_own():
    array = np.arange(100_000)
    fd = ship(array, "dataset")
    one, other = unship(fd), unship(fd)
    one[:] = -1
    assert np.array_equal(other, np.arange(100_000))
    assert np.array_equal(array, np.arange(100_000))
    assert np.array_equal(unship(fd), np.arange(100_000))
    os.close(fd)


def test_the_memory_is_sealed():
    fd = ship(np.arange(10_000), "dataset")
    seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    for seal in (fcntl.F_SEAL_SEAL, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW):
        assert seals & seal
    for change in (lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 1 << 30)):
        with pytest.raises(PermissionError):
            change()
    assert not os.get_inheritable(fd)
    os.close(fd)


SCRIPT = """
import os, subprocess, sys
import numpy as np
from distrain.datasets import TransformDataset
from distrain.iterators.feed.shipment import ship

factor = 3

class Own:
    def __init__(self):
        self.x = np.arange(200_000)
        self.add = lambda x: x + factor
    def __len__(self):
        return 5
    def __getitem__(self, i):
        return self.add(self.x[i])

fd = ship(TransformDataset(Own(), lambda x: 10 * x), "dataset")
os.set_inheritable(fd, True)
code = f"from distrain.iterators.feed.shipment import unship; print([int(x) for x in unship({fd})[0:5]])"
subprocess.run([sys.executable, "-c", code], pass_fds=[fd], check=True)
"""


def test_classes_and_lambdas_of_the_script_reach_another_process(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[30, 40, 50, 60, 70]"


class Holder:
    def __init__(self, **parts):
        vars(self).update(parts)

    def __call__(self, x):
        return x


def generator():
    yield 1


def closing_over(part):
    return lambda x: (x, part)


@pytest.fixture
def culprits():
    with open(os.devnull, "rb") as file:
        yield {"file": file, "lock": threading.Lock(), "generator": generator()}


@pytest.mark.parametrize("kind", ["file", "lock", "generator"])
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda part: Holder(part=part), "dataset.part"),
        (lambda part: Holder(a=1, inner=Holder(list=[0, {"key": part}])), "dataset.inner.list[1]['key']"),
        (lambda part: [0, (1, part)], "dataset[1][1]"),
        (closing_over, "dataset's variable part"),
        (lambda part: part, "dataset"),
    ],
)
def test_what_cannot_travel_is_named(culprits, kind, wrap, path):
    names = {"file": "_io.BufferedReader", "lock": "_thread.lock", "generator": "builtins.generator"}
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TransferError) as caught:
        ship(wrap(culprits[kind]), "dataset")
    message = str(caught.value)
    assert f"the dataset cannot travel to the processes that read it: {path} is a {names[kind]} (" in message
    assert "in __getitem__" in message
    assert isinstance(caught.value, TypeError)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_transform_of_a_dataset_is_named(culprits):
    dataset = TransformDataset([1, 2], closing_over(culprits["lock"]))
    with pytest.raises(TransferError, match=r"dataset\.\w+'s variable part is a _thread.lock"):
        ship(dataset, "dataset")


def test_a_partial_with_a_loop_does_not_search_for_ever(culprits):
    loop = Holder(lock=culprits["lock"])
    loop.self = loop
    with pytest.raises(TransferError, match="cannot travel"):
        ship(partial(loop, loop), "dataset")


def test_an_error_while_pickling_is_named():
    class Odd:
        def __reduce__(self):
            raise RuntimeError("not today")

    with pytest.raises(TransferError, match=r"dataset\[0\] is a .*Odd \(RuntimeError: not today\)"):
        ship([Odd()], "dataset")
