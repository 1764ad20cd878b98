from __future__ import annotations

from distrain.comm.intents import LEAVE, describe, difference, summary


def test_what_differs_has_another_number() -> None:
    intents = [("allreduce", "<f4", (5,)), ("allreduce", "<f4", (6,)), ("bcast", 0), ("bcast", 1), ("barrier",)]
    assert len({summary(intent).number for intent in intents}) == len(intents)
    assert all([0 <= summary(intent).number < 2**56 for intent in intents])


def test_in_short_and_in_words() -> None:
    array = ("allreduce", "<f4", (2, 5))
    assert (summary(array).action, summary(array).elements, summary(array).dtype) == (b"allreduce", 10, b"float32")
    assert (summary(("bcast", 1)).action, summary(("bcast", 1)).elements) == (b"bcast", -1)
    assert describe(array) == "allreduce of float32 (2, 5)"
    assert describe(("alltoall", None)) == "alltoall"
    assert describe(("bcast", 1)) == "bcast with 1"


def test_a_difference_names_ranks() -> None:
    text = difference([describe(("barrier",)), describe((LEAVE,)), describe(("barrier",))], ["a", "b", "a"])
    assert "  rank 0 (a), 2 (a): barrier\n  rank 1 (b): has come to the end of its script\n" in text
