import math

import numpy as np

from distrain.reporting import Detached


def test_it_reads_like_a_number():
    loss = Detached(np.array(2.75, np.float32))
    assert (float(loss), int(loss), loss.item(), math.isfinite(loss)) == (2.75, 2, 2.75, True)
    assert f"{loss:.1f} {loss}" == "2.8 2.75"
    assert type(loss.item()) is float


def test_it_reads_like_an_array():
    array = np.arange(3.0)
    value = Detached(array)
    assert value.array is value.data is array
    assert (value.shape, value.ndim, value.dtype) == ((3,), 1, np.float64)
    assert np.asarray(value) is array
    np.testing.assert_array_equal(np.asarray(value, np.int32), [0, 1, 2])
    assert not np.shares_memory(np.array(value), array)
    assert repr(value) == "Detached(array([0., 1., 2.]))"
    assert f"{value}" == "[0. 1. 2.]"
