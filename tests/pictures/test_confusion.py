"""Pictures of what a classifier gets wrong."""

import numpy as np
import pytest
from PIL import Image

from keras_mixer.pictures import confusion


def test_the_most_confused_classes_are_those_of_the_most_mistakes_either_way():
    matrix = np.diag(np.full(50, 9))
    matrix[7, 40] = 5
    matrix[3, 20] = 2
    matrix[21, 40] = 1
    assert confusion.most_confused(matrix, 2).tolist() == [7, 40]
    assert confusion.most_confused(matrix, 5).tolist() == [3, 7, 20, 21, 40]


def test_a_picture_of_many_classes_is_as_large_as_one_of_thirty(tmp_path):
    sizes = {}
    for count in (3, 30, 200):
        matrix = np.random.default_rng(0).integers(0, 5, (count, count))
        confusion.write_confusion(tmp_path / f"{count}.png", matrix, [f"$name {k}" * 9 for k in range(count)], "$title")
        with Image.open(tmp_path / f"{count}.png") as image:
            sizes[count] = image.size
    assert sizes[3] < sizes[30] == sizes[200]
    assert len(list(tmp_path.iterdir())) == 3


def test_mistakes_are_drawn_and_bad_input_is_refused(tmp_path):
    images = np.zeros((3, 8, 8, 3), "float32")
    confusion.write_mistakes(tmp_path / "mistakes.png", images, [["a/$1.png", "is a"]] * 3, "title")
    with Image.open(tmp_path / "mistakes.png") as image:
        assert image.width > image.height > 100
    with pytest.raises(ValueError, match=r"images: must be \(B, H, W, 3\) with B captions"):
        confusion.write_mistakes(tmp_path / "no.png", images, [["a"]] * 2)
    with pytest.raises(ValueError, match=r"matrix: must be \(K, K\) for 2 class names, got \(3, 3\)"):
        confusion.write_confusion(tmp_path / "no.png", np.eye(3), ["a", "b"])
    assert not (tmp_path / "no.png").exists()
