"""Captions and the picture of a batch."""

import numpy as np
import pytest
from PIL import Image

from keras_mixer import files
from keras_mixer.pictures import contact_sheet
from keras_mixer.pictures.figure import new_figure

NAMES = ["ant", "bee", "a_very_long_name_of_some_animal", "$cat"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ([0, 1, 0, 0], "bee"),
        ([0.25, 0.75, 0, 0], "0.75 bee\n0.25 ant"),
        ([0.999, 0.001, 0, 0], ">0.99 ant\n<0.01 bee"),
        ([0, 0, 1, 0], "a very long name of s…"),
        ([0, 0, 0, 1], r"\$cat"),
        ([0.7, 0.1, 0.1, 0.1], "0.70 ant\n0.10 bee\n2 more"),
    ],
)
def test_a_caption_names_the_classes_by_weight(label, expected):
    assert contact_sheet.caption(label, NAMES) == expected


def test_the_picture_shows_each_image_in_its_place(tmp_path):
    images = np.full((3, 8, 8, 3), -1.0, np.float32)
    images[0, ..., 0] = images[1, ..., 1] = images[2, ..., 2] = 1  # red, green, blue
    path = tmp_path / "new" / "sheet.png"
    contact_sheet.write_contact_sheet(path, images, np.eye(4)[:3], NAMES, "title", columns=2)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    for colour, (row, column) in zip(np.eye(3) * 255, [(0, 0), (0, 1), (1, 0)], strict=True):
        at = np.argwhere((pixels == colour).all(axis=-1)).mean(axis=0)
        assert (at[0] > height / 2, at[1] > width / 2) == (row, column)
    assert [p.name for p in path.parent.iterdir()] == ["sheet.png"]


def test_what_is_no_batch_is_refused(tmp_path):
    images, labels = np.zeros((2, 4, 4, 3)), np.eye(4)[:2]
    for bad, labels_of_it, message in [
        (images[0], labels, r"images: must be \(B, H, W, 3 or 1\)"),
        (images + 200, labels, r"images: must be in \[-1, 1\], got 200 to 200"),
        (images, labels[:1], "and B labels, got .*, 1 labels"),
        (images, labels[:, :3], "class_names: 4 names for labels of 3 classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            contact_sheet.write_contact_sheet(tmp_path / "sheet.png", bad, labels_of_it, NAMES)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.png", "old")]


def test_without_matplotlib_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"plot: pictures need matplotlib; install it with pip install matplotlib"):
        new_figure(1, 1)
