import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from distrain.config import using_config
from distrain.datasets import get_digits
from distrain.errors import ArgumentError


def test_sizes_and_dtypes():
    train, test = get_digits()
    assert (len(train), len(test)) == (1442, 355)
    x, t = train[0]
    assert (x.shape, x.dtype, t.dtype) == ((64,), np.float32, np.int32)


def test_the_parts_are_disjoint_balanced_and_fixed():
    with np.load(resources.files("distrain.datasets") / "data/digits.npz") as arrays:
        images, labels = arrays["images"].reshape(-1, 64) / 16, arrays["labels"]
    train, test = get_digits()
    test_x, test_t = test.columns_at(np.arange(len(test)))
    np.testing.assert_array_equal(np.bincount(test_t), np.bincount(labels) // 5)
    threes = np.flatnonzero(labels == 3)
    np.testing.assert_array_equal(test_x[test_t == 3], images[threes[4::5]])
    train_x, train_t = train.columns_at(np.arange(len(train)))
    both = np.concatenate([train_x, test_x])
    np.testing.assert_array_equal(both[np.lexsort(both.T)], images[np.lexsort(images.T)])
    assert len(train_t) + len(test_t) == 1797


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"ndim": 1}, (64,)),
        ({"ndim": 2}, (8, 8)),
        ({"ndim": 3}, (1, 8, 8)),
        ({"ndim": 3, "rgb_format": True}, (3, 8, 8)),
    ],
)
def test_shapes(options, shape):
    plain, _ = get_digits(withlabel=False)
    images, _ = get_digits(withlabel=False, **options)
    assert images.shape == (1442, *shape)
    np.testing.assert_array_equal(images.reshape(1442, -1)[:, :64], plain)
    np.testing.assert_array_equal(images.reshape(1442, -1)[:, -64:], plain)


def test_values():
    images, _ = get_digits(withlabel=False, scale=255.0, dtype=np.float64)
    assert (images.min(), images.max(), images.dtype) == (0, 255, np.float64)
    with using_config("dtype", np.float16):
        assert get_digits(withlabel=False)[0].dtype == np.float16
    assert get_digits(label_dtype=np.int8)[0][0][1].dtype == np.int8


@pytest.mark.parametrize("options", [{"ndim": 4}, {"ndim": 0}, {"rgb_format": True}, {"dtype": np.uint8}])
def test_errors(options):
    with pytest.raises(ArgumentError):
        get_digits(**options)


def test_the_attribution_is_shipped():
    text = (resources.files("distrain.datasets") / "data/digits.txt").read_text()
    assert "CC BY 4.0" in text
    assert "Alpaydin" in text


def test_heavy_packages_stay_unloaded():
    program = (
        "import sys, distrain.datasets, distrain.iterators; distrain.datasets.get_digits();"
        "print({'PIL', 'filelock', 'platformdirs', 'rich', 'mpi4py.MPI', 'http.client', 'ssl'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert out.stdout == "set()\n", out.stderr
