import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from distrain import cuda
from distrain.errors import ArgumentError, CorruptFileError, MismatchError, SerializationError
from distrain.serializers import DictionarySerializer, NpzDeserializer, load_npz, save_npz

REFERENCE = Path(__file__).parents[1] / "data" / "reference"


class Layer:
    """Parameters by name, with children by name."""

    def __init__(self, arrays=(), children=()):
        self.arrays = dict(arrays)
        self.children = dict(children)

    def serialize(self, serializer):
        for name, array in self.arrays.items():
            self.arrays[name] = serializer(name, array)
        for name, child in self.children.items():
            child.serialize(serializer[name])


class Loop:
    """Scalars of all kinds."""

    def __init__(self, epoch=0, rate=0.0, done=False, title="", best=None, steps=()):
        self.epoch, self.rate, self.done, self.title, self.best, self.steps = epoch, rate, done, title, best, steps

    def serialize(self, serializer):
        for name in vars(self):
            setattr(self, name, serializer(name, getattr(self, name)))


class Log:
    """Reads as Chainer's extensions do: cannot be rehearsed, for it parses what it gets."""

    def __init__(self, entries=()):
        self.entries = list(entries)

    def serialize(self, serializer):
        if serializer.is_writer:
            serializer("_log", json.dumps(self.entries))
        else:
            self.entries = json.loads(serializer("_log", ""))


class Extended:
    """A trainer whose second extension is new."""

    def __init__(self, model, *names):
        self.model = model
        self.extensions = {name: Loop(epoch=-1) for name in names}

    def serialize(self, serializer):
        self.model.serialize(serializer["model:main"])
        for name, extension in self.extensions.items():
            extension.serialize(serializer["extensions"].lenient()[name])


def mlp(fill=0.0, sizes=((50, 64), (50, 50), (10, 50)), dtype=np.float32):
    layers = {
        f"l{i}": Layer({"W": np.full(size, fill, dtype), "b": np.full(size[0], fill, dtype)})
        for i, size in enumerate(sizes, 1)
    }
    return Layer(children={"predictor": Layer(children=layers)})


def arrays_of(layer, path=""):
    found = {path + name: array for name, array in layer.arrays.items()}
    for name, child in layer.children.items():
        found.update(arrays_of(child, f"{path}{name}/"))
    return found


@pytest.mark.parametrize("compression", [True, False])
def test_arrays_come_back_in_place(tmp_path, compression):
    saved, loaded = mlp(3), mlp()
    arrays = arrays_of(loaded)
    save_npz(tmp_path / "m", saved, compression)
    load_npz(tmp_path / "m", loaded)
    for key, array in arrays_of(loaded).items():
        assert array is arrays[key]
        assert (array == 3).all()
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3)[:, ::2], np.asfortranarray(np.ones((2, 3))), np.array(2.5), np.zeros((0, 4)),
        np.array([1 + 2j]), np.array([True, False]), np.array(["ab", "c"]), np.array([1, 2], ">i4"), np.float16([1, 2]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)  # fmt: skip
def test_any_plain_array(tmp_path, array):
    save_npz(tmp_path / "a", Layer({"x": array}))
    whatever = Layer({"x": None})
    load_npz(tmp_path / "a", whatever)
    np.testing.assert_array_equal(whatever.arrays["x"], array)
    assert whatever.arrays["x"].dtype == array.dtype
    assert whatever.arrays["x"].flags.writeable
    same = Layer({"x": np.empty_like(array)})
    load_npz(tmp_path / "a", same)
    np.testing.assert_array_equal(same.arrays["x"], array)


def test_the_object_keeps_its_dtype(tmp_path):
    save_npz(tmp_path / "m", mlp(1.5, dtype=np.float64))
    half = mlp(dtype=np.float16)
    load_npz(tmp_path / "m", half)
    assert {(a.dtype.name, float(a.max())) for a in arrays_of(half).values()} == {("float16", 1.5)}


def test_scalars_keep_their_types(tmp_path):
    save_npz(tmp_path / "s", Loop(2**40, 0.1, True, "größe", None, [1, 2]))
    loop = Loop()
    loop.steps = []
    load_npz(tmp_path / "s", loop)
    assert vars(loop) == {"epoch": 2**40, "rate": 0.1, "done": True, "title": "größe", "best": None, "steps": [1, 2]}
    assert [type(v) for v in vars(loop).values()] == [int, float, bool, str, type(None), list]
    fresh = Loop(epoch=np.int32(1), rate=np.float32(0), steps=None)
    load_npz(tmp_path / "s", fresh, ignore_names="epoch")
    assert (fresh.epoch, type(fresh.rate)) == (1, np.float32)


def test_the_empty_string(tmp_path):
    save_npz(tmp_path / "s", Loop(title=""))
    loop = Loop(title="before")
    load_npz(tmp_path / "s", loop)
    assert loop.title == ""


def test_none_is_told_from_the_word_and_from_an_empty_array(tmp_path):
    save_npz(tmp_path / "n", Layer({"none": None, "word": "None", "empty": np.zeros(0)}))
    layer = Layer({"none": np.ones(3), "word": None, "empty": None})
    load_npz(tmp_path / "n", layer)
    assert layer.arrays["none"] is None
    assert layer.arrays["word"] == "None"
    assert layer.arrays["empty"].shape == (0,)


def test_the_layout_on_disk_is_plain_numpy(tmp_path):
    save_npz(tmp_path / "t", Layer(children={"/updater/": Layer({"/iteration": 3})}))
    with np.load(tmp_path / "t", allow_pickle=False) as npz:
        assert npz.files == ["updater/iteration"]
        assert npz["updater/iteration"] == 3


def test_the_bytes_depend_on_the_state_alone(tmp_path):
    save_npz(tmp_path / "a", mlp(1))
    time.sleep(2.1)  # zip counts time in steps of two seconds
    save_npz(tmp_path / "b", mlp(1))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_file_objects(tmp_path):
    stream = io.BytesIO()
    save_npz(stream, mlp(2))
    stream.seek(0)
    model = mlp()
    load_npz(stream, model)
    assert (model.children["predictor"].children["l1"].arrays["W"] == 2).all()
    with pytest.raises(ArgumentError, match="not dict"):
        load_npz({}, model)


def test_a_dictionary_in_memory_and_an_open_npz_file(tmp_path):
    serializer = DictionarySerializer(path="updater/")
    serializer.save(mlp(2))
    model = mlp()
    NpzDeserializer(serializer.target, "updater").load(model)
    assert (model.children["predictor"].children["l3"].arrays["b"] == 2).all()
    save_npz(tmp_path / "m", mlp(5))
    with np.load(tmp_path / "m") as npz:
        NpzDeserializer(npz).load(model)
    assert (model.children["predictor"].children["l3"].arrays["b"] == 5).all()


@pytest.mark.parametrize("value", [{"a": 1}, object(), [[1], [2, "x", object()]]])
def test_what_only_pickle_could_write_is_refused(tmp_path, value):
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(SerializationError, match="'child/state'.*only pickle"):
        save_npz(tmp_path / "x", Layer(children={"child": Layer({"state": value})}))
    assert (tmp_path / "x").read_bytes() == b"old"
    with pytest.raises(SerializationError, match="NUL"):
        save_npz(tmp_path / "x", Layer({"key": b"a\0"}))


# Chainer's files


def test_chainers_model_loads():
    model = mlp()
    load_npz(REFERENCE / "mlp_adam.init.npz", model)
    with np.load(REFERENCE / "mlp_adam.init.npz") as npz:
        assert set(npz.files) == set(arrays_of(model))
        for key, array in arrays_of(model).items():
            np.testing.assert_array_equal(array, npz[key])


def test_the_model_of_chainers_snapshot_loads_by_its_path():
    for path in ("updater/model:main", "updater/model:main/", "/updater/model:main/"):
        model = mlp()
        load_npz(REFERENCE / "mlp_adam.snapshot_iter_30.npz", model, path=path)
        with np.load(REFERENCE / "mlp_adam.snapshot_iter_30.npz") as npz:
            key = "predictor/l2/W"
            np.testing.assert_array_equal(arrays_of(model)[key], npz["updater/model:main/" + key])


def test_chainers_scalars_load():
    iterator = Layer({"current_position": 0, "epoch": 0, "is_new_epoch": True, "previous_epoch_detail": 0.0})
    log = Layer({"_log": ""})
    snapshot = Layer(children={"updater/iterator:main": iterator, "extensions/LogReport": log})
    load_npz(REFERENCE / "mlp_adam.snapshot_iter_30.npz", snapshot)
    assert iterator.arrays == {
        "current_position": 1203, "epoch": 1, "is_new_epoch": False, "previous_epoch_detail": 1.613800779076238
    }  # fmt: skip
    assert [entry["iteration"] for entry in json.loads(log.arrays["_log"])] == [15, 30]


def test_chainers_none_is_skipped_with_one_warning(tmp_path):
    np.savez(tmp_path / "c.npz", **{"a/best": np.asarray(None), "b/best": np.asarray(None), "a/x": np.ones(2)})
    a, b = Layer({"best": 7.0, "x": np.zeros(2)}), Layer({"best": None})
    with pytest.warns(UserWarning, match="pickled.*left as it is: 2\n    a/best\n    b/best") as caught:
        load_npz(tmp_path / "c.npz", Layer(children={"a": a, "b": b}))
    assert len(caught) == 1
    assert a.arrays["best"] == 7
    assert (a.arrays["x"] == 1).all()
    assert b.arrays["best"] is None


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_pickled_arrays_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("p.npz", W=np.array([Bomb(), None], dtype=object), b=np.zeros(2), n=np.asarray(Bomb(), dtype=object))
    layer = Layer({"b": np.ones(2), "W": np.ones(2)})
    with pytest.raises(CorruptFileError, match=r"p\.npz: the array 'W' holds pickled objects.*save it again"):
        load_npz("p.npz", Layer({"b": layer.arrays["b"], "W": None}))
    with pytest.raises((CorruptFileError, MismatchError), match="W"):
        load_npz("p.npz", layer)
    assert (layer.arrays["b"] == 1).all()
    with pytest.warns(UserWarning, match="nothing is unpickled"):
        load_npz("p.npz", Layer({"n": None}))
    assert not Path("exploded").exists()


# Another model's file


def test_another_models_file_is_refused_with_everything_listed_and_changes_nothing():
    model = mlp(9, sizes=((50, 64), (50, 40)))
    model.children["predictor"].children["conv"] = Layer({"W": np.full(3, 9.0)})
    model.children["predictor"].arrays["scale"] = 9
    with pytest.raises(MismatchError) as caught:
        load_npz(REFERENCE / "mlp_adam.init.npz", model)
    message = str(caught.value)
    assert "mlp_adam.init.npz does not belong to this Layer" in message
    assert "missing in the file: 2\n    predictor/scale\n    predictor/conv/W\n" in message
    assert "predictor/l2/W (shape (50, 50) in the file, (50, 40) in the object)" in message
    assert "surplus in the file: 2\n    predictor/l3/b\n    predictor/l3/W\n" in message
    assert all((np.asarray(array) == 9).all() for array in arrays_of(model).values())
    with pytest.raises(KeyError):  # Chainer's users catch this
        load_npz(REFERENCE / "mlp_adam.init.npz", model)


def test_a_shape_that_would_broadcast_is_refused(tmp_path):
    save_npz(tmp_path / "m", Layer({"b": np.ones(1)}))
    with pytest.raises(MismatchError, match=r"b \(shape \(1,\) in the file, \(5,\) in the object\)"):
        load_npz(tmp_path / "m", Layer({"b": np.ones(5)}), strict=False)


@pytest.mark.parametrize(
    ("saved", "asked"),
    [(0.5, 1), (1j, 1.0), ("a", 1), (1, "a"), (2, True), (np.ones(2), 1.0), (1.0, [1]), (np.ones(2), np.ones(2, int))],
)
def test_a_value_that_would_lose_is_refused(tmp_path, saved, asked):
    save_npz(tmp_path / "m", Layer({"x": saved}))
    with pytest.raises(MismatchError, match=r"x \(.* in the file, .* in the object\)"):
        load_npz(tmp_path / "m", Layer({"x": asked}))


def test_an_unreadable_type_is_named(tmp_path):
    save_npz(tmp_path / "m", Layer({"x": 1}))
    with pytest.raises(SerializationError, match="a dict cannot be read"):
        load_npz(tmp_path / "m", Layer({"x": {}}))


def test_the_message_says_where_in_the_file_the_model_is():
    with pytest.raises(MismatchError, match="pass path='updater/model:main/'"):
        load_npz(REFERENCE / "mlp_adam.snapshot_iter_30.npz", mlp())


def test_surplus_alone_is_no_error():
    part = Layer(children={"predictor": Layer(children={"l1": Layer({"b": np.full(50, 9.0)})})})
    load_npz(REFERENCE / "mlp_adam.init.npz", part)
    assert (arrays_of(part)["predictor/l1/b"] == 0).all()


def test_not_strict_leaves_what_is_missing_and_lists_it_once():
    model = mlp(9)
    model.children["predictor"].children["l4"] = Layer({"W": np.full(3, 9.0), "b": None})
    with pytest.warns(UserWarning, match="left as it is: 2\n    predictor/l4/W\n    predictor/l4/b") as caught:
        load_npz(REFERENCE / "mlp_adam.init.npz", model, strict=False)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert (arrays_of(model)["predictor/l4/W"] == 9).all()
    assert not (arrays_of(model)["predictor/l1/W"] == 9).any()


def test_an_optional_place_is_read_where_it_is_and_missed_without_a_word(tmp_path):
    class Choice:
        def __init__(self, size=None):
            self.size = size

        def serialize(self, serializer):
            if self.size is not None or not serializer.is_writer:
                self.size = serializer["choice"].optional()("size", self.size)

    for name, written, expected in (("with", 5, 5), ("without", None, None)):
        save_npz(tmp_path / name, Choice(written))
        loaded = Choice()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load_npz(tmp_path / name, loaded)
        assert loaded.size == expected


def test_a_lenient_place_survives_an_added_extension_and_the_rest_stays_strict(tmp_path):
    save_npz(tmp_path / "t", Extended(mlp(1), "log"))
    trainer = Extended(mlp(), "log", "new")
    trainer.extensions["log"].epoch = 5
    with pytest.warns(UserWarning, match=r"extensions/new/epoch(.|\n)*extensions/new/steps"):
        load_npz(tmp_path / "t", trainer)
    assert trainer.extensions["log"].epoch == -1
    assert (arrays_of(trainer.model)["predictor/l1/W"] == 1).all()
    trainer.model = Layer({"other": np.zeros(1)})
    with pytest.raises(MismatchError, match="missing in the file: 1\n    model:main/other\n"):
        load_npz(tmp_path / "t", trainer)


def test_ignored_names():
    model = mlp(9)
    key = "predictor/l1/W"
    load_npz(REFERENCE / "mlp_adam.init.npz", model, ignore_names=[key, lambda name: name.endswith("/b")])
    kept = {name for name, array in arrays_of(model).items() if (array == 9).all()}
    assert kept == {key, "predictor/l1/b", "predictor/l2/b", "predictor/l3/b"}


def test_an_object_that_parses_what_it_reads(tmp_path):
    parts = {"log": Log([1, 2]), "model": mlp(3)}
    save_npz(tmp_path / "t", Layer(children=parts))
    fresh = Layer(children={"log": Log(), "model": mlp()})
    load_npz(tmp_path / "t", fresh)
    assert fresh.children["log"].entries == [1, 2]
    assert (fresh.children["model"].children["predictor"].children["l1"].arrays["W"] == 3).all()
    with pytest.raises(MismatchError, match="_log"):
        load_npz(REFERENCE / "mlp_adam.init.npz", Log())


def test_reading_without_load_raises_at_the_first_missing_key():
    reader = NpzDeserializer({"a/b": np.ones(1)})
    assert reader["a"]("b", None) == 1
    with pytest.raises(MismatchError, match="a/c"):
        reader["a"]("c", 0)
    assert reader.lenient()["a"]("c", 7) == 7
    assert not reader.is_writer
    assert DictionarySerializer().is_writer


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "none", mlp())


# Durability

SAVE_FOREVER = """
import sys
import numpy as np
from distrain.serializers import save_npz

class Weights:
    def serialize(self, serializer):
        for i in range(40):
            serializer(str(i), np.full(200_000, self.generation, np.float32))

weights = Weights()
for weights.generation in range(1, 10_000):
    save_npz(sys.argv[1], weights, compression=False)
    print(weights.generation, flush=True)
"""


def test_a_killed_save_leaves_the_older_file_whole(tmp_path):
    path = tmp_path / "snapshot"
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, path], stdout=subprocess.PIPE, text=True) as child:
            try:
                before = int(child.stdout.readline())
                deadline = time.monotonic() + 30
                while not any(t.stat().st_size > 10**6 for t in tmp_path.glob(".snapshot.*")):
                    assert time.monotonic() < deadline
            except FileNotFoundError:
                pass  # it was renamed while we looked; the kill comes a little later then
            finally:
                child.send_signal(signal.SIGKILL)
            after = [before, *map(int, child.stdout)][-1]
        weights = Layer({str(i): np.zeros(200_000, np.float32) for i in range(40)})
        load_npz(path, weights)
        generations = {float(a) for array in weights.arrays.values() for a in (array.min(), array.max())}
        assert len(generations) == 1
        assert generations <= {after, after + 1}  # the last one may be in place and not yet printed


def test_a_full_disk_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "snapshot"
    save_npz(path, mlp(1))
    big = Layer({"x": np.random.default_rng(0).random(100_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # stands for a full disk: write() fails half-way
    try:
        for compression in (True, False):
            with pytest.raises(OSError, match="snapshot"):
                save_npz(path, big, compression)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["snapshot"]
    model = mlp()
    load_npz(path, model)
    assert (arrays_of(model)["predictor/l1/W"] == 1).all()


def test_no_warning_and_no_open_file_is_left(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = set(os.listdir("/proc/self/fd"))
        save_npz(tmp_path / "m", mlp(1))
        load_npz(tmp_path / "m", mlp())
        with pytest.raises(MismatchError):
            load_npz(tmp_path / "m", Layer({"other": 1}))
        assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.gpu
@pytest.mark.skipif(not cuda.available, reason="needs a CUDA device and cupy")
def test_device_arrays(tmp_path):
    import cupy

    array = cupy.arange(6, dtype=np.float32).reshape(2, 3)
    save_npz(tmp_path / "g", Layer({"W": array}))
    loaded = Layer({"W": cupy.zeros((2, 3), np.float16)})
    kept = loaded.arrays["W"]
    load_npz(tmp_path / "g", loaded)
    assert loaded.arrays["W"] is kept
    np.testing.assert_array_equal(kept.get(), array.get())
