"""MNIST and Fashion-MNIST from their IDX files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distrain.dataset.download import fetch, get_dataset_root
from distrain.datasets.image_arrays import grey_dataset
from distrain.errors import DatasetError

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
_UBYTE = 8  # IDX code of unsigned bytes
_LARGEST = 1 << 30  # bytes of content; a header that says more is damaged


def get_mnist(
    withlabel: bool = True,
    ndim: int = 1,
    scale: float = 1.0,
    dtype: DTypeLike | None = None,
    label_dtype: DTypeLike = np.int32,
    rgb_format: bool = False,
) -> tuple[Any, Any]:
    """MNIST (LeCun, Cortes and Burges): 60000 handwritten digits of 28 × 28 pixels to train on, 10000 to test.

    The four IDX files are taken from `<dataset root>/mnist/` under their original names, gzipped or not; those that
    are not there are downloaded.

    Args:
        withlabel: TupleDatasets of images and labels; False gives arrays of images.
        ndim: 1 for images `(784,)`, 2 for `(28, 28)`, 3 for `(1, 28, 28)`.
        scale: largest value of a pixel (pixels of the files are 0 … 255).
        dtype: of the images; None is `config.dtype`.
        label_dtype: of the labels.
        rgb_format: with `ndim=3`, three equal channels.

    Returns:
        Training set and test set.

    Raises:
        ArgumentError: another `ndim`, or `rgb_format` without `ndim=3`.
        DatasetError: a file is damaged.
        DownloadError: a file is missing and cannot be fetched.
    """
    return _get("mnist", _MNIST, _MNIST_MD5, withlabel, ndim, scale, dtype, label_dtype, rgb_format)


def get_fashion_mnist(
    withlabel: bool = True,
    ndim: int = 1,
    scale: float = 1.0,
    dtype: DTypeLike | None = None,
    label_dtype: DTypeLike = np.int32,
    rgb_format: bool = False,
) -> tuple[Any, Any]:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf): pictures of clothes in MNIST's format.

    The files are those in `<dataset root>/fashion-mnist/`. Arguments, results and errors are those of `get_mnist`.
    """
    return _get("fashion-mnist", _FASHION, _FASHION_MD5, withlabel, ndim, scale, dtype, label_dtype, rgb_format)


def _get(
    name: str,
    url: str,
    md5: dict[str, str],
    withlabel: bool,
    ndim: int,
    scale: float,
    dtype: DTypeLike | None,
    label_dtype: DTypeLike,
    rgb_format: bool,
) -> tuple[Any, Any]:
    def read(part: str) -> Any:
        images = read_idx(_find(name, url, md5, f"{part}-images-idx3-ubyte.gz"), 3)
        labels = read_idx(_find(name, url, md5, f"{part}-labels-idx1-ubyte.gz"), 1)
        if len(images) != len(labels):
            raise DatasetError(
                f"{Path(get_dataset_root(), name)}: {len(images)} {part} images, but {len(labels)} labels. "
                "The files do not belong together; delete them and run again."
            )
        return grey_dataset(
            images,
            labels,
            white=255,
            withlabel=withlabel,
            ndim=ndim,
            scale=scale,
            dtype=dtype,
            label_dtype=label_dtype,
            rgb_format=rgb_format,
        )

    return read("train"), read("t10k")


def _find(name: str, url: str, md5: dict[str, str], file: str) -> Path:
    packed = Path(get_dataset_root(), name, file)
    plain = packed.with_suffix("")
    if plain.exists():
        return plain
    return fetch(url + file, packed, f"md5:{md5[file]}", mirrored_as=f"{name}/{file}")


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file, gzipped if its name ends with `.gz`.

    The format: two zero bytes, the code of the element type, the number of axes, the length of each axis as a
    big-endian 32-bit integer, the elements (http://yann.lecun.com/exdb/mnist/).

    Args:
        path: of the file.
        ndim: the number of axes it must have.

    Raises:
        DatasetError: the file is not such an array, whole.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as packed:
                return _parse_idx(path, packed, ndim)  # type: ignore[arg-type]
        with path.open("rb") as plain:
            return _parse_idx(path, plain, ndim)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error


def _parse_idx(path: Path, file: BinaryIO, ndim: int) -> NDArray[np.uint8]:
    magic = file.read(4)
    wanted = bytes((0, 0, _UBYTE, ndim))
    if magic != wanted:
        raise _damaged(path, f"it begins with {magic.hex()}, but an IDX file of {ndim} axes with {wanted.hex()}")
    header = file.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise _damaged(path, "it ends within the header")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
    size = math.prod(shape)
    if size > _LARGEST:
        raise _damaged(path, f"its header says {shape}, which is {size} bytes")
    content = file.read(size + 1)
    if len(content) != size:
        what = f"only {len(content)}" if len(content) < size else "more"
        raise _damaged(path, f"its header says {shape}, which is {size} bytes, but it holds {what}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _damaged(path: Path, fact: str) -> DatasetError:
    return DatasetError(f"{path} is damaged: {fact}. Delete it and run again, or put a good copy there.")
