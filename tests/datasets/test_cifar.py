import io
import tarfile

import numpy as np
import pytest

from distrain.dataset import set_dataset_root
from distrain.datasets import get_cifar10, get_cifar100
from distrain.errors import ArgumentError, DatasetError, DownloadError

RNG = np.random.default_rng(0)
TEN_FILES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
TEN = {name: RNG.integers(0, 10, (4, 3073), np.uint8) for name in TEN_FILES}
HUNDRED = {name: RNG.integers(0, 100, (4, 3074), np.uint8) for name in ("train.bin", "test.bin")}


def archive(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTRAIN_MIRROR", "http://127.0.0.1:9")  # the discard port: nothing answers
    set_dataset_root(tmp_path)
    yield tmp_path
    set_dataset_root(None)


@pytest.mark.parametrize("form", ["bin", "folder", "tar"])
class TestFilesThatAreThere:
    def write(self, form, folder, inner, packed, records):
        if form == "tar":
            members = {f"{inner}/readme.html": b"x", **{f"{inner}/{name}": r.tobytes() for name, r in records.items()}}
            archive(folder / packed, members)
            return
        place = folder / inner if form == "folder" else folder
        place.mkdir(parents=True)
        for name, record in records.items():
            (place / name).write_bytes(record.tobytes())

    def test_cifar10(self, root, form):
        self.write(form, root / "cifar10", "cifar-10-batches-bin", "cifar-10-binary.tar.gz", TEN)
        train, test = get_cifar10()
        assert (len(train), len(test)) == (20, 4)
        x, t = train.columns_at(np.arange(20))
        assert (x.shape, x.dtype, t.dtype) == ((20, 3, 32, 32), np.float32, np.int32)
        records = np.concatenate([TEN[f"data_batch_{i}.bin"] for i in range(1, 6)])
        np.testing.assert_array_equal(t, records[:, 0])
        np.testing.assert_allclose(x.reshape(20, 3072), records[:, 1:] / 255, rtol=1e-6)
        flat, _ = get_cifar10(withlabel=False, ndim=1, scale=255.0, dtype=np.float64)
        np.testing.assert_allclose(flat, records[:, 1:])

    def test_cifar100_has_the_fine_labels(self, root, form):
        self.write(form, root / "cifar100", "cifar-100-binary", "cifar-100-binary.tar.gz", HUNDRED)
        _, test = get_cifar100()
        x, t = test.columns_at(np.arange(4))
        np.testing.assert_array_equal(t, HUNDRED["test.bin"][:, 1])
        np.testing.assert_allclose(x[3].ravel(), HUNDRED["test.bin"][3, 2:] / 255, rtol=1e-6)


def test_without_a_network_the_error_says_what_to_do(root):
    with pytest.raises(DownloadError) as info:
        get_cifar10()
    for word in ("cifar-10-binary.tar.gz", str(root / "cifar10"), "get_digits"):
        assert word in str(info.value)


def test_an_archive_cannot_write_anywhere(root):
    members = {f"../../evil/{name}": r.tobytes() for name, r in HUNDRED.items()} | {"/etc/evil": b"x"}
    archive(root / "cifar100" / "cifar-100-binary.tar.gz", members)
    train, _ = get_cifar100()
    assert len(train) == 4
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["cifar-100-binary.tar.gz"]


def test_links_in_an_archive_are_not_followed(root, tmp_path):
    path = root / "cifar100" / "cifar-100-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        for name in HUNDRED:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(info)
    with pytest.raises(DatasetError, match="does not hold train.bin, test.bin"):
        get_cifar100()


def test_damage(root):
    path = root / "cifar100" / "cifar-100-binary.tar.gz"
    archive(path, {name: r.tobytes() for name, r in HUNDRED.items()})
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (whole[: len(whole) // 2], whole[:-6], bytes(flipped), b"nothing", b""):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="is damaged"):
            get_cifar100()
    archive(path, {"train.bin": b"x" * 3074, "test.bin": b"x" * 3073})
    with pytest.raises(DatasetError, match="3073 bytes, which is no number of records of 3074"):
        get_cifar100()


def test_ndim(root):
    archive(root / "cifar100" / "cifar-100-binary.tar.gz", {name: r.tobytes() for name, r in HUNDRED.items()})
    with pytest.raises(ArgumentError, match="one of 1, 3"):
        get_cifar100(ndim=2)
