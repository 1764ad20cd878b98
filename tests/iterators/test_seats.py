import random

import numpy as np
import pytest

from distrain.iterators import seats


def draw(seed, epoch, index):
    with seats.kept():
        seats.sit(seed, epoch, index)
        return np.random.rand(), random.random()


def test_a_function_of_the_position():
    positions = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2**40), (2**63 - 1, 0, seats.ORDER)]
    first = [draw(*position) for position in positions]
    assert [draw(*position) for position in reversed(positions)] == first[::-1]
    assert len({numpy for numpy, _ in first}) == len({python for _, python in first}) == len(positions)


def test_the_generators_are_put_back_even_after_an_error():
    np.random.seed(1)
    random.seed(1)
    expected = np.random.rand(), random.random()
    np.random.seed(1)
    random.seed(1)
    draw(0, 0, 0)
    with pytest.raises(ZeroDivisionError), seats.kept():
        np.random.rand() / int(random.random())
    assert (np.random.rand(), random.random()) == expected
