"""Streams are named by position; noise of the ranks puts together one array."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distrain import minibatch, rng
from distrain.errors import ArgumentError

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seed():
    rng.set_seed(7)


def shares(total: int, ranks: int, step: int = 3) -> list[minibatch.Share]:
    sizes = [total // ranks + (r < total % ranks) for r in range(ranks)]
    starts = np.cumsum([0, *sizes[:-1]])
    return [minibatch.Share(step, int(a), n, total) for a, n in zip(starts, sizes, strict=True)]


def in_process(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{REPO / 'launch'}", **env}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)


def test_stream_depends_on_position_alone():
    first = rng.stream("order", 1).random(5)
    rng.stream("order", 2).random(3)
    np.testing.assert_array_equal(rng.stream("order", 1).random(5), first)


def test_streams_of_other_positions_and_seeds_differ():
    positions = [("a", 1), ("a", 2), ("b", 1), ("a", 1, 2), ("a", "1"), ("a",)]
    drawn = [rng.stream(*position).random(4).tobytes() for position in positions]
    rng.set_seed(8)
    drawn.append(rng.stream("a", 1).random(4).tobytes())
    assert len(set(drawn)) == len(drawn)


def test_streams_are_not_correlated():
    a, b = rng.stream("a").standard_normal(20000), rng.stream("b").standard_normal(20000)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(100, 50), (100,), (10, 3, 5, 7), (9, 1), (7, 13)])
def test_noise_of_the_ranks_is_the_noise_of_one_process(n_ranks, shape):
    total, *rest = shape
    minibatch.announce(minibatch.Share(3, 0, total, total))
    whole = [rng.noise(shape), rng.noise(shape)]
    parts = []
    for share in shares(total, n_ranks):
        minibatch.announce(share)
        parts.append([rng.noise((share.count, *rest)), rng.noise((share.count, *rest))])
    for call in range(2):
        np.testing.assert_array_equal(np.concatenate([part[call] for part in parts]), whole[call])
    assert not np.array_equal(*whole)


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_noise_for_several_rows_a_sample(n_ranks):
    minibatch.announce(minibatch.Share(0, 0, 10, 10))
    whole = rng.noise((40, 3))
    parts = []
    for share in shares(10, n_ranks, step=0):
        minibatch.announce(share)
        parts.append(rng.noise((4 * share.count, 3)))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_noise_is_uniform_float32():
    drawn = rng.noise((1000, 50))
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.01
    assert rng.noise((0, 3)).shape == (0, 3)
    assert rng.noise(()).shape == ()


def test_noise_repeats_with_the_step_only():
    first = []
    for step in (0, 1, 0):
        minibatch.announce(minibatch.Share(step, 0, 4, 4))
        first.append(rng.noise((4, 4)))
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])


def test_noise_outside_of_training_does_not_start_anew_after_a_minibatch():
    before = rng.noise((4, 4))
    minibatch.announce(minibatch.Share(0, 0, 4, 4))
    rng.noise((4, 4))
    minibatch.announce(None)
    assert not np.array_equal(rng.noise((4, 4)), before)


OWN = """
import numpy as np
from distrain import minibatch, rng
for share in (None, minibatch.Share(0, 0, 4, 4, ranks=1)):
    minibatch.announce(share)
    print(rng.noise((4,)).tolist())
minibatch.announce(minibatch.Share(0, 0, 4, 4))
print(rng.noise((4,)).tolist())
"""


def test_noise_of_a_ranks_own_batch_differs_by_rank():
    outputs = []
    for rank in "01":
        env = {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": "2"}
        env |= {"OMPI_COMM_WORLD_LOCAL_RANK": rank, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
        done = in_process(OWN, DISTRAIN_SEED="5", **env)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.splitlines())
    assert outputs[0][0] != outputs[1][0]
    assert outputs[0][1] != outputs[1][1]
    assert outputs[0][2] == outputs[1][2]


def test_legacy_seated_puts_both_generators_back():
    np.random.seed(1)
    random.seed(1)
    want = np.random.rand(), random.random()
    np.random.seed(1)
    random.seed(1)
    with rng.legacy_seated("init", 0):
        inside = np.random.rand(), random.random()
    assert (np.random.rand(), random.random()) == want
    with rng.legacy_seated("init", 0):
        assert (np.random.rand(), random.random()) == inside
    with rng.legacy_seated("init", 1):
        assert np.random.rand() != inside[0]


def test_set_seed_starts_the_ordinals_anew():
    assert [rng.next_ordinal(), rng.next_ordinal()] == [0, 1]
    rng.set_seed(np.int64(9))
    assert rng.seed() == 9
    assert type(rng.seed()) is int
    assert rng.next_ordinal() == 0


@pytest.mark.parametrize("bad", [-1, 2**63, 1.0, "1", None, True])
def test_set_seed_refuses(bad):
    with pytest.raises(ArgumentError, match="seed must be an integer"):
        rng.set_seed(bad)
    assert rng.seed() == 7


SEED = "import numpy as np; from distrain import rng; {}; print(rng.seed(), rng.stream('a').integers(1 << 60))"


def test_seed_from_the_environment():
    done = [in_process(SEED.format(code), DISTRAIN_SEED="42") for code in ("0", "np.random.seed(3)")]
    assert done[0].stdout.split()[0] == "42"
    assert done[0].stdout == done[1].stdout


@pytest.mark.parametrize("bad", ["", "x", "-1", "1.5", str(2**63)])
def test_bad_seed_in_the_environment(monkeypatch, bad):
    monkeypatch.setattr(rng._Job, "seed", None)
    monkeypatch.setenv("DISTRAIN_SEED", bad)
    with pytest.raises(ArgumentError, match="DISTRAIN_SEED must be an integer"):
        rng.seed()


def test_numpys_seed_makes_a_run_repeatable():
    same = [in_process(SEED.format("np.random.seed(3)")).stdout for _ in range(2)]
    other = in_process(SEED.format("np.random.seed(4)")).stdout
    assert same[0] == same[1] != other
    assert same[0]


class TestSampleRng:
    @pytest.fixture(autouse=True)
    def _no_sample(self):
        yield
        rng.at_sample(None)

    @staticmethod
    def draw(*position):
        rng.at_sample(position)
        generator = rng.sample_rng()
        return generator.random(3).tolist(), generator.integers(1 << 30, dtype=np.uint32), generator.normal()

    def test_depends_on_seed_epoch_and_index_alone(self):
        positions = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2**40), (2**63 - 1, 2**40, 7)]
        first = [self.draw(*position) for position in positions]
        np.random.seed(9)
        rng.set_seed(99)
        assert [self.draw(*position) for position in reversed(positions)] == first[::-1]
        assert len({repr(drawn) for drawn in first}) == len(positions)

    def test_does_not_depend_on_how_much_the_last_sample_drew(self):
        expected = self.draw(0, 0, 2)
        for count in range(1, 9):
            rng.at_sample((0, 0, 1))
            rng.sample_rng().integers(1 << 20, size=count, dtype=np.uint32)
            assert self.draw(0, 0, 2) == expected

    def test_goes_on_within_a_sample(self):
        rng.at_sample((0, 0, 1))
        whole = rng.sample_rng().random(4)
        rng.at_sample((0, 0, 1))
        assert rng.sample_rng() is rng.sample_rng()
        np.testing.assert_array_equal([rng.sample_rng().random() for _ in range(4)], whole)

    def test_a_million_samples_do_not_overlap(self):
        rng.at_sample((0, 0, 5))
        long = set(rng.sample_rng().integers(1 << 63, size=10**6).tolist())
        rng.at_sample((0, 0, 6))
        assert long.isdisjoint(rng.sample_rng().integers(1 << 63, size=1000).tolist())

    def test_each_thread_has_its_own_sample(self):
        import threading

        expected = [self.draw(0, 0, i) for i in range(8)]
        barrier = threading.Barrier(8, timeout=30)
        found = [None] * 8

        def read(i):
            for _ in range(20):
                rng.at_sample((0, 0, i))
                barrier.wait()
                generator = rng.sample_rng()
                drawn = generator.random(3).tolist()
                barrier.wait()
                found[i] = drawn, generator.integers(1 << 30, dtype=np.uint32), rng.sample_rng().normal()

        threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == expected

    def test_outside_of_an_iterator_each_call_gives_another_one(self):
        rng.at_sample((0, 0, 0))
        inside = rng.sample_rng().random()
        rng.at_sample(None)
        assert len({inside, *(rng.sample_rng().random() for _ in range(50))}) == 51

    def test_outside_of_an_iterator_it_follows_the_seed(self):
        code = "from distrain import rng; print([rng.sample_rng().random() for _ in range(3)])"
        done = [in_process(code, DISTRAIN_SEED=seed) for seed in ("4", "4", "5")]
        assert [one.returncode for one in done] == [0, 0, 0]
        assert done[0].stdout == done[1].stdout != done[2].stdout
