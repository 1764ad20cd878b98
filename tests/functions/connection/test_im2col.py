import numpy as np
import pytest

from distrain.functions.connection.im2col import Columns, Windows, pair


def test_pair():
    assert pair(3) == (3, 3)
    assert pair((1, 2)) == (1, 2)


@pytest.mark.parametrize(
    ("windows", "size", "count", "covering"),
    [
        (Windows((3, 3)), (5, 7), (3, 5), (3, 5)),
        (Windows((2, 2), (2, 2)), (5, 4), (2, 2), (3, 2)),
        (Windows((3, 3), (2, 2), (1, 1)), (28, 28), (14, 14), (15, 15)),
        (Windows((3, 1), (1, 1), (0, 0), (2, 1)), (4, 4), (0, 4), (0, 4)),
    ],
)
def test_count(windows, size, count, covering):
    assert windows.count(size) == count
    assert windows.count(size, cover_all=True) == covering


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_columns_and_their_adjoint(stride):
    windows = Windows((2, 3), stride, (1, 0), (1, 2))
    x = np.arange(2.0 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    count = windows.count((4, 6))
    columns = Columns(np, np.float64, 2, 3, (4, 6), windows, count)
    columns.fill(x)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    table = columns.matrix(1).reshape(3, 2, 3, 2, count[0], columns.row)[..., : count[1]]
    for i, j in np.ndindex(2, 3):
        rows, cols = i + stride[0] * np.arange(count[0]), 2 * j + stride[1] * np.arange(count[1])
        np.testing.assert_array_equal(table[:, i, j].transpose(1, 0, 2, 3), padded[:, :, rows][..., cols])
    weights = np.random.default_rng(0).normal(size=table.shape)
    product = (table * weights).sum()
    columns.columns.fill(0)  # columns over the edge of the image, between the rows
    table[...] = weights
    gx = np.full_like(x, np.nan)
    columns.add_up(gx)
    np.testing.assert_allclose((gx * x).sum(), product)
