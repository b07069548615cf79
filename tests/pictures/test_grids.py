"""Captions and the picture of a batch, and pictures of what a classifier gets wrong."""

import numpy as np
import pytest
from PIL import Image

from keras_mixer import files
from keras_mixer.pictures import grids
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
    assert grids.caption(label, NAMES) == expected


def test_the_picture_shows_each_image_in_its_place(tmp_path):
    images = np.full((3, 8, 8, 3), -1.0, np.float32)
    images[0, ..., 0] = images[1, ..., 1] = images[2, ..., 2] = 1  # red, green, blue
    path = tmp_path / "new" / "sheet.png"
    grids.write_contact_sheet(path, images, np.eye(4)[:3], NAMES, "title", columns=2)
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
            grids.write_contact_sheet(tmp_path / "sheet.png", bad, labels_of_it, NAMES)
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


def test_the_most_confused_classes_are_those_of_the_most_mistakes_either_way():
    matrix = np.diag(np.full(50, 9))
    matrix[7, 40] = 5
    matrix[3, 20] = 2
    matrix[21, 40] = 1
    assert grids.most_confused(matrix, 2).tolist() == [7, 40]
    assert grids.most_confused(matrix, 5).tolist() == [3, 7, 20, 21, 40]


def test_a_picture_of_many_classes_is_as_large_as_one_of_thirty(tmp_path):
    sizes = {}
    for count in (3, 30, 200):
        matrix = np.random.default_rng(0).integers(0, 5, (count, count))
        grids.write_confusion(tmp_path / f"{count}.png", matrix, [f"$name {k}" * 9 for k in range(count)], "$title")
        with Image.open(tmp_path / f"{count}.png") as image:
            sizes[count] = image.size
    assert sizes[3] < sizes[30] == sizes[200]
    assert len(list(tmp_path.iterdir())) == 3


def test_mistakes_are_drawn_and_bad_input_is_refused(tmp_path):
    images = np.zeros((3, 8, 8, 3), "float32")
    grids.write_mistakes(tmp_path / "mistakes.png", images, [["a/$1.png", "is a"]] * 3, "title")
    with Image.open(tmp_path / "mistakes.png") as image:
        assert image.width > image.height > 100
    with pytest.raises(ValueError, match=r"images: must be \(B, H, W, 3\) with B captions"):
        grids.write_mistakes(tmp_path / "no.png", images, [["a"]] * 2)
    with pytest.raises(ValueError, match=r"matrix: must be \(K, K\) for 2 class names, got \(3, 3\)"):
        grids.write_confusion(tmp_path / "no.png", np.eye(3), ["a", "b"])
    assert not (tmp_path / "no.png").exists()
