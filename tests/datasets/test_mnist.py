import gzip
import http.server
import struct
import threading

import numpy as np
import pytest

from distrain.dataset import set_dataset_root
from distrain.datasets import get_fashion_mnist, get_mnist
from distrain.datasets.mnist import read_idx
from distrain.errors import DatasetError, DownloadError

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (12, 28, 28), np.uint8), RNG.integers(0, 10, 12, np.uint8)
TEST = RNG.integers(0, 256, (5, 28, 28), np.uint8), RNG.integers(0, 10, 5, np.uint8)


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, packed):
    folder.mkdir(parents=True)
    for part, (images, labels) in (("train", TRAIN), ("t10k", TEST)):
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTRAIN_MIRROR", "http://127.0.0.1:9")  # the discard port: nothing answers
    set_dataset_root(tmp_path)
    yield tmp_path
    set_dataset_root(None)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("name", "get"), [("mnist", get_mnist), ("fashion-mnist", get_fashion_mnist)])
def test_files_that_are_there(root, packed, name, get):
    write(root / name, packed)
    train, test = get()
    assert (len(train), len(test)) == (12, 5)
    x, t = train.columns_at(np.arange(12))
    np.testing.assert_allclose(x, TRAIN[0].reshape(12, 784) / 255, rtol=1e-6)
    np.testing.assert_array_equal(t, TRAIN[1])
    assert (x.dtype, t.dtype) == (np.float32, np.int32)
    images, _ = get(withlabel=False, ndim=3, scale=255.0, rgb_format=True)
    np.testing.assert_allclose(images[:, 1], TRAIN[0])
    assert images.shape == (12, 3, 28, 28)


def test_without_a_network_the_error_says_what_to_do(root):
    with pytest.raises(DownloadError) as info:
        get_mnist()
    for word in ("train-images-idx3-ubyte.gz", str(root / "mnist"), "get_digits"):
        assert word in str(info.value)


def test_a_mirror_with_other_content_is_refused(root, monkeypatch):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"something else")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.paths = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("DISTRAIN_MIRROR", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(DownloadError, match="expected f68b3c2dcbeaaa9fbdd348bbdeb94873"):
            get_mnist()
        server.shutdown()
        thread.join(10)
    assert server.paths == ["/mnist/train-images-idx3-ubyte.gz"]
    assert not list(root.glob("mnist/*.gz"))


def test_files_that_do_not_belong_together(root):
    write(root / "mnist", False)
    (root / "mnist" / "train-labels-idx1-ubyte").write_bytes(idx(TEST[1]))
    with pytest.raises(DatasetError, match="12 train images, but 5 labels"):
        get_mnist()


class TestReadIdx:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "begins with "),
            (b"\0\0\x0d\x03" + bytes(100), "begins with 00000d03"),
            (idx(TRAIN[1]), "begins with 00000801"),
            (idx(TRAIN[0])[:9], "ends within the header"),
            (idx(TRAIN[0])[:-1], f"holds only {12 * 784 - 1}"),
            (idx(TRAIN[0]) + b"x", "holds more"),
            (b"\0\0\x08\x03" + b"\xff" * 12, "its header says"),
        ],
    )
    @pytest.mark.parametrize("packed", [True, False])
    def test_damaged(self, tmp_path, content, message, packed):
        path = tmp_path / ("x.gz" if packed else "x")
        path.write_bytes(gzip.compress(content) if packed else content)
        with pytest.raises(DatasetError, match=f"{path} is damaged: .*{message}"):
            read_idx(path, 3)

    @pytest.mark.parametrize("cut", [5, 40, -3])
    def test_truncated_gzip(self, tmp_path, cut):
        path = tmp_path / "x.gz"
        path.write_bytes(gzip.compress(idx(TRAIN[0]))[:cut])
        with pytest.raises(DatasetError, match="is damaged"):
            read_idx(path, 3)

    def test_not_gzip(self, tmp_path):
        path = tmp_path / "x.gz"
        path.write_bytes(idx(TRAIN[0]))
        with pytest.raises(DatasetError, match="is damaged"):
            read_idx(path, 3)
