"""CIFAR-10 and CIFAR-100 from their binary version."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distrain.dataset.download import fetch, get_dataset_root
from distrain.datasets.image_arrays import check_ndim, scaled
from distrain.datasets.tuple_dataset import TupleDataset
from distrain.errors import DatasetError

_URL = "https://www.cs.toronto.edu/~kriz/"
_PIXELS = 3 * 32 * 32
_LARGEST = 1 << 28  # bytes of one file; the real ones have at most 154 MB


def get_cifar10(
    withlabel: bool = True,
    ndim: int = 3,
    scale: float = 1.0,
    dtype: DTypeLike | None = None,
) -> tuple[Any, Any]:
    """CIFAR-10 (Krizhevsky, 2009): 50000 colour images of 32 × 32 pixels in ten classes to train on, 10000 to test.

    Taken from `<dataset root>/cifar10/`: `data_batch_1.bin` … `data_batch_5.bin` and `test_batch.bin`, there or in
    `cifar-10-batches-bin/`, else `cifar-10-binary.tar.gz`, which is downloaded if it is not there.

    Args:
        withlabel: TupleDatasets of images and labels (int32); False gives arrays of images.
        ndim: 3 for images `(3, 32, 32)`, 1 for `(3072,)`.
        scale: largest value of a pixel (pixels of the files are 0 … 255).
        dtype: of the images; None is `config.dtype`.

    Returns:
        Training set and test set.

    Raises:
        ArgumentError: another `ndim`.
        DatasetError: a file is damaged.
        DownloadError: the files are missing and cannot be fetched.
    """
    train = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
    contents = _contents(
        "cifar10",
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        "c32a1d4ab5d03f1284b67883e8d87530",
        (*train, "test_batch.bin"),
    )
    return _datasets(contents, train, "test_batch.bin", 1, withlabel, ndim, scale, dtype)


def get_cifar100(
    withlabel: bool = True,
    ndim: int = 3,
    scale: float = 1.0,
    dtype: DTypeLike | None = None,
) -> tuple[Any, Any]:
    """CIFAR-100 (Krizhevsky, 2009): as CIFAR-10, with a hundred classes (the fine labels).

    Taken from `<dataset root>/cifar100/`: `train.bin` and `test.bin`, there or in `cifar-100-binary/`, else
    `cifar-100-binary.tar.gz`, which is downloaded if it is not there. Arguments, results and errors are those of
    `get_cifar10`.
    """
    contents = _contents(
        "cifar100",
        "cifar-100-binary.tar.gz",
        "cifar-100-binary",
        "03b5dce01913d631647c71ecec9e9cb8",
        ("train.bin", "test.bin"),
    )
    return _datasets(contents, ("train.bin",), "test.bin", 2, withlabel, ndim, scale, dtype)


def _contents(name: str, archive: str, folder: str, md5: str, files: tuple[str, ...]) -> dict[Path, bytes]:
    """The bytes of the files, by their path (for those in the archive, a path below it)."""
    root = Path(get_dataset_root(), name)
    for place in (root, root / folder):
        if all((place / file).exists() for file in files):
            return {place / file: (place / file).read_bytes() for file in files}
    packed = fetch(_URL + archive, root / archive, f"md5:{md5}", mirrored_as=f"{name}/{archive}")
    return {packed / file: content for file, content in _unpacked(packed, files).items()}


def _unpacked(path: Path, files: tuple[str, ...]) -> dict[str, bytes]:
    """The bytes of some members of a tar.gz file. Nothing is written, whatever names the archive holds."""
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in files or not member.isfile():
                    continue
                if member.size > _LARGEST:
                    raise _damaged(path, f"{name} in it claims {member.size} bytes")
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                found[name] = content.read()
            while stream.read(1 << 20):  # to the end, where the checksum stands
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    missing = [name for name in files if name not in found]
    if missing:
        raise _damaged(path, f"it does not hold {', '.join(missing)}")
    return found


def _datasets(
    contents: dict[Path, bytes],
    train: tuple[str, ...],
    test: str,
    n_labels: int,
    withlabel: bool,
    ndim: int,
    scale: float,
    dtype: DTypeLike | None,
) -> tuple[Any, Any]:
    check_ndim(ndim, (1, 3))
    records = {path.name: _records(path, content, n_labels) for path, content in contents.items()}

    def dataset(files: tuple[str, ...]) -> Any:
        pixels = np.concatenate([records[file][:, n_labels:] for file in files])
        labels = np.concatenate([records[file][:, n_labels - 1] for file in files])
        x = scaled(pixels if ndim == 1 else pixels.reshape(-1, 3, 32, 32), scale / 255, dtype)
        return TupleDataset(x, labels.astype(np.int32)) if withlabel else x

    return dataset(train), dataset((test,))


def _records(path: Path, content: bytes, n_labels: int) -> NDArray[np.uint8]:
    """Records of labels (coarse before fine) and pixels (red, green, blue): `(N, n_labels + 3072)`."""
    size = n_labels + _PIXELS
    if not content or len(content) % size:
        raise _damaged(path, f"it has {len(content)} bytes, which is no number of records of {size} bytes")
    return np.frombuffer(content, np.uint8).reshape(-1, size)


def _damaged(path: Path, fact: str) -> DatasetError:
    return DatasetError(f"{path} is damaged: {fact}. Delete it and run again, or put a good copy there.")
