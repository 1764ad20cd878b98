from __future__ import annotations

import pytest

from distrain.reporting.channel.stream import find_missing_keys

A, B = {"a": (1.0, 1.0, 1.0)}, {"b": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({0: A}, {}),
        ({0: A, 1: A, 2: A}, {}),
        ({0: A, 1: B}, {"b": [0]}),  # "a" may be what an extension of rank 0 reports
        ({0: A | B, 1: A, 2: A}, {}),
        ({0: A, 1: A | B, 2: A}, {"b": [0, 2]}),
        ({0: A | B, 1: A | B, 3: A}, {"b": [3]}),
        ({0: {}, 2: A, 3: A}, {"a": [0]}),
    ],
)
def test_missing_keys(parts, expected):
    assert find_missing_keys(parts) == expected
