import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from distrain.config import using_config
from distrain.dataset import concat_examples
from distrain.datasets import ImageDataset, LabeledImageDataset
from distrain.errors import DatasetError

RGB = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
GREY = np.arange(8, dtype=np.uint8).reshape(4, 2)


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a b.png")
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    return tmp_path


def test_images(folder):
    dataset = ImageDataset(["a b.png", "grey.png"], root=folder)
    assert len(dataset) == 2
    rgb, grey = dataset
    assert rgb.dtype == grey.dtype == np.float32
    np.testing.assert_array_equal(rgb, RGB.transpose(2, 0, 1))
    np.testing.assert_array_equal(grey, GREY[None])
    assert concat_examples(dataset[:1]).shape == (1, 3, 4, 2)


def test_dtype(folder):
    assert ImageDataset(["grey.png"], folder, np.uint8)[0].dtype == np.uint8
    with using_config("dtype", np.float16):
        assert ImageDataset(["grey.png"], folder)[0].dtype == np.float16


def test_list_in_a_file(folder):
    (folder / "list.txt").write_text("a b.png\n\ngrey.png\n")
    assert len(ImageDataset(folder / "list.txt", root=folder)) == 2
    assert ImageDataset(str(folder / "list.txt"), root=str(folder))[1].shape == (1, 4, 2)


def test_labels(folder):
    dataset = LabeledImageDataset([("a b.png", 3), (folder / "grey.png", 4)], root=folder)
    image, label = dataset[0]
    assert image.shape == (3, 4, 2)
    assert (label, label.dtype) == (3, np.int32)
    assert dataset[1][1] == 4


def test_labels_in_a_file(folder):
    (folder / "list.txt").write_text("a b.png 3\ngrey.png -1\n")
    dataset = LabeledImageDataset(folder / "list.txt", root=folder, label_dtype=np.int64)
    assert [(image.shape, int(label)) for image, label in dataset] == [((3, 4, 2), 3), ((1, 4, 2), -1)]
    assert dataset[0][1].dtype == np.int64


@pytest.mark.parametrize("line", ["a.png", "a.png one", "3"])
def test_a_line_without_a_label(folder, line):
    (folder / "list.txt").write_text(f"a b.png 3\n{line}\n")
    with pytest.raises(DatasetError, match=r"list.txt, entry 2"):
        LabeledImageDataset(folder / "list.txt")


def test_no_list(folder):
    with pytest.raises(DatasetError, match="should list the images"):
        ImageDataset(folder / "none.txt")


def test_damaged_images(folder):
    whole = (folder / "a b.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no image")
    dataset = ImageDataset(["cut.png", "text.png", "missing.png"], root=folder)
    for i, name in enumerate(["cut.png", "text.png", "missing.png"]):
        with pytest.raises(DatasetError, match=f"cannot read the image .*{name}"):
            dataset[i]


def test_without_pillow(tmp_path):
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "from distrain.datasets import ImageDataset\n"
        "try:\n    ImageDataset(['a.png'])[0]\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert out.stdout.startswith("DatasetError"), out.stderr
    assert "pip install distrain[image]" in out.stdout
