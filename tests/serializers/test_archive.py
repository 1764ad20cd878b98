import io
import pickle
import random
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from distrain.errors import CorruptFileError, MismatchError
from distrain.serializers import load_npz, save_npz
from distrain.serializers.archive import Archive

REFERENCE = Path(__file__).parents[1] / "data" / "reference"


class Weights:
    def __init__(self, fill=0.0, shape=(40, 30)):
        self.W = np.full(shape, fill, np.float32)
        self.b = np.full(7, fill)
        self.title = ""

    def serialize(self, serializer):
        self.W = serializer("W", self.W)
        self.b = serializer["deep"]("b", self.b)
        self.title = serializer("title", self.title)


def file_of(*, compression):
    stream = io.BytesIO()
    weights = Weights(2)
    weights.W[:] = np.random.default_rng(0).random(weights.W.shape)
    weights.title = "thirty"
    save_npz(stream, weights, compression)
    return stream.getvalue()


def header(descr, shape, fortran=False):
    text = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


def npz(path, *members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


class Anything:
    def __init__(self, value=None, key="x"):
        self.value, self.key = value, key

    def serialize(self, serializer):
        self.value = serializer(self.key, self.value)


@pytest.mark.parametrize("compression", [True, False])
def test_truncated_at_any_place(tmp_path, compression):
    whole = file_of(compression=compression)
    path = tmp_path / "cut.npz"
    for length in {*range(0, len(whole), 64), *range(len(whole) - 40, len(whole))}:
        path.write_bytes(whole[:length])
        weights = Weights(9)
        with pytest.raises(CorruptFileError, match=r"cut\.npz is not a whole npz file: .*copy the file again"):
            load_npz(path, weights)
        assert (weights.W == 9).all()
        assert (weights.b == 9).all()


@pytest.mark.parametrize("compression", [True, False])
def test_flipped_bits_are_found_or_harmless(tmp_path, compression):
    whole = file_of(compression=compression)
    good = Weights()
    load_npz(io.BytesIO(whole), good)
    draw = random.Random(1)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        weights = Weights(9)
        try:
            load_npz(io.BytesIO(damaged), weights)
        except (CorruptFileError, MismatchError):  # a name in the directory may have changed: a missing key
            refused += 1
            assert (weights.W == 9).all()
            assert weights.title == ""
        else:
            np.testing.assert_array_equal(weights.W, good.W)
            np.testing.assert_array_equal(weights.b, good.b)
            assert weights.title == good.title
    assert refused > 1000


def test_bytes_lost_in_the_middle(tmp_path):
    whole = file_of(compression=False)
    path = tmp_path / "lost.npz"
    path.write_bytes(whole[:300] + whole[400:])
    with pytest.raises(CorruptFileError):
        load_npz(path, Weights())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (pickle.dumps({"W": [1.0]}), "it is a pickle"),
        (b"\x93NUMPY\x01\x00" + b" " * 99, "single npy"),
        (b"\x89HDF\r\n\x1a\n" + b" " * 99, "HDF5"),
        (b"PK\x03\x04" + b" " * 99, "truncated"),
        (bytes(range(256)) * 20, "not a whole npz"),
    ],
    ids=["empty", "pickle", "npy", "hdf5", "truncated", "garbage"],
)
def test_other_files_are_named(tmp_path, content, words):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=words):
        load_npz(path, Weights())


@pytest.mark.parametrize("name", ["/etc/x.npy", "../x.npy", "a/../../x.npy", "a/..npy/../x.npy"])
def test_names_that_leave_the_archive(tmp_path, name):
    with pytest.raises(CorruptFileError, match="member name"):
        load_npz(npz(tmp_path / "n", (name, header("<f4", (0,)))), Anything())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(tmp_path):
    with pytest.raises(CorruptFileError, match="twice"):
        load_npz(npz(tmp_path / "n", ("x.npy", header("<f4", (0,))), ("x.npy", header("<f4", (0,)))), Anything())


@pytest.mark.parametrize(
    ("descr", "shape", "data"),
    [
        ("<f4", (2**33,), b""),
        ("<f4", (2**33,), b"\0" * 4096),
        ("<f4", (2**70, 2**70), b""),
        ("<f4", (-1,), b"\0" * 4),
        ("<f4", (-2, -2), b"\0" * 16),
        ("<f4", (2,), b"\0" * 4),
        ("<f4", (2,), b"\0" * 12),
        ("|V34359738368", (), b""),
        ("<U4000000000", (), b"ab"),
        (("<f4", (10**5, 10**5)), (1,), b"\0" * 4),
        ("<f4", "abc", b""),
        ("<U0", (10**9,), b""),  # NumPy makes it U1
        ([], (10**9,), b""),
        ("nonsense", (1,), b"\0"),
        ("<f4", (1.5,), b"\0" * 4),
    ],
)
@pytest.mark.parametrize("asked", [None, 0.0])
def test_headers_that_lie(tmp_path, descr, shape, data, asked):
    path = npz(tmp_path / "h.npz", ("x.npy", header(descr, shape) + data))
    with pytest.raises(CorruptFileError, match=r"h\.npz: the array 'x'.*copy the file again"):
        load_npz(path, Anything(asked))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_small_file_cannot_declare_gigabytes(tmp_path, method):
    """The directory and the header agree on 32 GiB; the file has a few hundred bytes."""
    path = npz(tmp_path / "g.npz", ("x.npy", header("<f4", (2**20 * 1000,)) + bytes(999)), method=method)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**22 * 1000 + len(header("<f4", (2**20 * 1000,))))
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"'x' declares 4194304\d\d\d bytes, but its \d+ bytes can hold"):
        load_npz(path, Anything())


def test_a_member_beyond_the_end_of_the_file(tmp_path):
    path = npz(tmp_path / "e.npz", ("x.npy", header("<f4", (1,)) + bytes(4)), method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match="lies at bytes 0 to 2147483648, outside"):
        load_npz(path, Anything())


def test_a_member_that_expands_beyond_what_it_declares_takes_no_memory(tmp_path):
    array = header("<f4", (5000,)) + bytes(20_000)
    path = npz(tmp_path / "b.npz", ("x.npy", array + bytes(10**8)))
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 16 : entry + 20] = struct.pack("<I", zlib.crc32(array))
    data[entry + 24 : entry + 28] = struct.pack("<I", len(array))
    path.write_bytes(data)
    tracemalloc.start()
    try:
        load_npz(path, Anything())
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_zeros_compress_well_and_are_no_bomb(tmp_path):
    save_npz(tmp_path / "z", Weights(0, (2000, 3000)))
    assert (tmp_path / "z").stat().st_size < 30_000
    weights = Weights(1, (2000, 3000))
    load_npz(tmp_path / "z", weights)
    assert not weights.W.any()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_without_a_bound_are_refused(tmp_path, method):
    with pytest.raises(CorruptFileError, match="compressed in a way"):
        load_npz(npz(tmp_path / "c", ("x.npy", header("<f4", (0,))), method=method), Anything())


def test_a_newer_npy_format_is_named(tmp_path):
    data = b"\x93NUMPY\x04\x00" + header("<f4", (0,))[8:]
    with pytest.raises(CorruptFileError, match=r"version \(4, 0\)"):
        load_npz(npz(tmp_path / "v", ("x.npy", data)), Anything())


def test_other_members_are_passed_over(tmp_path):
    array = header("<f4", (1,)) + bytes(4)
    path = npz(tmp_path / "o", ("folder/", b""), ("notes.txt", b"hello"), ("folder/x.npy", array))
    thing = Anything(key="folder/x")
    load_npz(path, thing)
    np.testing.assert_array_equal(thing.value, [0])
    with pytest.raises(MismatchError):
        load_npz(path, Anything(key="notes.txt"))


def test_files_of_numpy_itself(tmp_path):
    np.savez_compressed(tmp_path / "n.npz", x=np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    thing = Anything()
    load_npz(tmp_path / "n.npz", thing)
    np.testing.assert_array_equal(thing.value, np.arange(6.0).reshape(2, 3))


def test_check_reads_what_nobody_asks_for():
    data = bytearray(file_of(compression=False))
    Archive(io.BytesIO(data), "whole").check()
    with open(REFERENCE / "mlp_adam.snapshot_iter_30.npz", "rb") as stream:  # has pickled entries
        Archive(stream, "Chainer's").check()
    data[data.index("thirty".encode("utf-32-le"))] ^= 1
    with pytest.raises(CorruptFileError, match="bad: the array 'title' is damaged"):
        Archive(io.BytesIO(data), "bad").check()
