import json
import math
import timeit

import numpy as np
import pytest

from distrain import cuda
from distrain.reporting import Detached, DictSummary, Summary
from distrain.serializers import DictionarySerializer, NpzDeserializer, load_npz, save_npz


class Boxed:
    """A Variable, as far as a summary can tell."""

    def __init__(self, array):
        self.array = array


def test_weighted_mean_and_deviation():
    values, weights = np.random.default_rng(0).normal(3, 2, (2, 50)), np.arange(50) % 4
    summary = Summary()
    for value, weight in zip(values[0], weights, strict=True):
        summary.add(value, weight)
    mean = np.average(values[0], weights=weights)
    deviation = math.sqrt(np.average((values[0] - mean) ** 2, weights=weights))
    assert summary.compute_mean() == pytest.approx(mean, rel=1e-12)
    assert summary.make_statistics() == pytest.approx((mean, deviation), rel=1e-12)


def test_nothing_added_is_nan():
    assert math.isnan(Summary().compute_mean())
    assert all(map(math.isnan, Summary().make_statistics()))


@pytest.mark.parametrize("value", [0.1, 0.637])  # eight times 0.637: rounding makes the variance negative
def test_equal_values_have_no_deviation(value):
    summary = Summary()
    for _ in range(8):
        summary.add(value)
    assert summary.make_statistics() == (pytest.approx(value), pytest.approx(0, abs=1e-7))


def test_a_nan_shows_in_both_statistics():
    summary = Summary()
    summary.add(1)
    summary.add(math.nan)
    assert all(map(math.isnan, summary.make_statistics()))


def test_weight_zero_is_ignored_even_for_nan():
    summary = DictSummary()
    summary.add({"loss": math.nan, "rest": 2.0}, 0.0)
    assert summary.first_nonfinite == {}
    assert math.isnan(summary.compute_mean()["loss"])
    summary.add({"loss": 2.0}, 0.25)
    assert summary.compute_mean()["loss"] == 2


def test_float32_values_are_summed_in_float64():
    summary = DictSummary()
    for _ in range(30_000):
        summary.add({"x": np.float32(0.1)})
    assert summary.compute_mean()["x"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize(
    "value",
    [
        2, 2.0, np.float32(2), np.int64(2), np.array(2.0), np.array(2, np.float16), Boxed(np.array(2.0)),
        Boxed(np.float32(2)), Detached(np.array(2.0)), (2.0, 1), (np.array(2.0), np.array(1)),
        (Boxed(np.array(2.0)), 1.0),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_counts_as_a_number(value):
    summary = DictSummary()
    summary.add({"x": value})
    assert summary.compute_mean() == {"x": 2.0}


@pytest.mark.parametrize("value", ["2", None, [2], np.ones(1), np.ones((1, 1)), Boxed(np.ones(3)), np.array("2"), {}])
def test_anything_else_is_ignored(value):
    summary = DictSummary()
    summary.add({"x": value, "y": 1})
    assert summary.compute_mean() == {"y": 1.0}


def test_a_value_may_bring_its_weight():
    summary = DictSummary()
    summary.add({"a": 1.0, "b": (1.0, 3)}, weight=1)
    summary.add({"a": 4.0, "b": 5.0, "late": 2.0}, weight=2)
    assert summary.compute_mean() == {"a": 3.0, "b": pytest.approx(13 / 5), "late": 2.0}
    assert summary.make_statistics()["a.std"] == pytest.approx(math.sqrt(2))


def test_merged_ranks_give_the_statistics_of_one():
    draw = np.random.default_rng(1)
    values, counts = draw.random((20, 3)), draw.integers(0, 5, (20, 3))
    counts[:, 0] += 1
    ranks, one = [DictSummary() for _ in range(3)], DictSummary()
    for step in range(20):
        for rank in range(3):
            ranks[rank].add({"loss": values[step, rank]}, counts[step, rank] / counts[step].sum())
        one.add({"loss": np.average(values[step], weights=counts[step])})
    ranks[2].add({"only here": 5})
    merged = DictSummary()
    for summary in ranks:
        merged.merge(json.loads(json.dumps(summary.sums())))
    assert merged.compute_mean() == {"loss": pytest.approx(one.compute_mean()["loss"], rel=1e-12), "only here": 5}
    assert merged.sums()["loss"][2] == pytest.approx(20)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -np.inf, np.float32("nan"), np.array(np.inf)])
def test_the_first_value_that_is_not_finite_is_remembered(bad):
    summary = DictSummary()
    for value in (1.0, 2.0, bad, 3.0, bad):
        summary.add({"loss": value, "accuracy": 0.5})
    assert summary.first_nonfinite == {"loss": 3}


def test_chainers_keys(tmp_path):
    summary = DictSummary()
    summary.add({"main/loss": 3.0, "main/accuracy": (0.5, 4)}, weight=2)
    serializer = DictionarySerializer()
    serializer["_summary"].save(summary)
    assert {key: array.item() for key, array in serializer.target.items()} == {
        "_summary/_names": '["main/loss", "main/accuracy"]',
        "_summary/_summaries/0/_x": 6, "_summary/_summaries/0/_x2": 18, "_summary/_summaries/0/_n": 2,
        "_summary/_summaries/1/_x": 2, "_summary/_summaries/1/_x2": 1, "_summary/_summaries/1/_n": 4,
    }  # fmt: skip


def test_a_loaded_summary_goes_on(tmp_path):
    summary, loaded = DictSummary(), DictSummary()
    summary.add({"a": 3.0, "b": np.float32(1)})
    loaded.add({"c": 1.0})
    save_npz(tmp_path / "s", summary)
    load_npz(tmp_path / "s", loaded)
    assert loaded.sums() == summary.sums()
    loaded.add({"a": 5.0})
    assert loaded.compute_mean() == {"a": 4.0, "b": 1.0}


def test_a_file_without_the_summary_leaves_it():
    summary = DictSummary()
    summary.add({"a": 3.0})
    with pytest.warns(UserWarning, match="left as it is: 1\n    _names"):
        NpzDeserializer({}, strict=False).load(summary)
    assert summary.compute_mean() == {"a": 3.0}


def test_a_summary_that_chainer_wrote():
    x = np.float32(5)
    file = {"_names": np.asarray('["main/loss"]')}
    file |= {f"_summaries/0/{k}": np.asarray(v) for k, v in {"_x": x, "_x2": x * x, "_n": 1}.items()}
    summary = DictSummary()
    NpzDeserializer(file).load(summary)
    assert summary.compute_mean() == {"main/loss": 5.0}


def test_adding_is_cheap():
    """At most 2 µs a key; the limit here leaves room for a busy machine."""
    summary = DictSummary()
    for value in (np.float32(1), np.array(1, np.float32)):
        observation = dict.fromkeys("abcd", value)
        seconds = min(timeit.repeat(lambda o=observation: summary.add(o, 0.5), number=500, repeat=20)) / 500 / 4
        assert seconds < 6e-6


@pytest.mark.gpu
@pytest.mark.skipif(not cuda.available, reason="needs a CUDA device and cupy")
def test_values_on_a_gpu():
    import cupy

    summary = DictSummary()
    for value in (1.0, 2.0, 6.0):
        summary.add({"x": cupy.asarray(value, np.float32)}, 0.5)
    summary.add({"x": 3.0}, 0.5)
    assert summary.sums() == {"x": (6.0, 25.0, 2.0)}
    assert summary.sums() == {"x": (6.0, 25.0, 2.0)}
