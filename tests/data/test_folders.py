"""Folders as people and their systems leave them: which files are images, of which class and split."""

import os

import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.data import folders, opening, record_writing

SIZE = 9


def write(root, *paths):
    """Write an image at each path below a folder; a path that ends in / gets two."""
    for path in paths:
        for name in [f"{path}0.png", f"{path}1.png"] if path.endswith("/") else [path]:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(tf.io.encode_png(np.full((SIZE, SIZE, 3), len(name), np.uint8)).numpy())


def opened(root):
    """Class names and numbers of images for training and evaluation, the way that users open a folder."""
    train, evaluation = (opening.open_source(str(root), training=training) for training in (True, False))
    assert train.class_names == evaluation.class_names
    return train.class_names, train.num_examples, evaluation.num_examples


# ---- Splits and what wraps them ----


@pytest.mark.parametrize(
    ("train", "evaluation"),
    [("train", "val"), ("Train", "Test"), ("training", "testing"), ("TRAIN", "Valid"), ("train", "dev")],
)
def test_split_folders_may_have_any_usual_name_and_case(tmp_path, train, evaluation):
    write(tmp_path, f"{train}/cat/", f"{train}/dog/", f"{evaluation}/cat/a.png", f"{evaluation}/dog/a.png")
    assert opened(tmp_path) == (("cat", "dog"), 4, 2)
    manifest = record_writing.write_records(tmp_path, tmp_path.with_name(f"{tmp_path.name}_records"), splits=["train"])
    assert list(manifest["splits"]) == [train]


@pytest.mark.parametrize("wrapper", ["archive/", "download/archive/"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_a_folder_that_wraps_the_data_is_looked_into_and_the_log_says_so(tmp_path, caplog, wrapper, split):
    write(tmp_path, f"{wrapper}{split}cat/", f"{wrapper}{split}dog/")
    if split:
        write(tmp_path, f"{wrapper}test/cat/a.png", f"{wrapper}test/dog/a.png")
    (tmp_path / "README.txt").write_text("")
    assert opened(tmp_path) == (("cat", "dog"), *((4, 2) if split else (2, 2)))
    found = tmp_path / wrapper
    assert f"{tmp_path}: holds a single folder, so the classes or splits are those in {found}." in caplog.text


def test_a_folder_that_wraps_classes_is_no_single_class(tmp_path):
    write(tmp_path, "animals/cat/", "animals/dog/", "animals/eel/")
    assert opened(tmp_path)[0] == ("cat", "dog", "eel")


@pytest.mark.parametrize("paths", [["cat/"], ["train/cat/", "test/cat/"], ["photos/train/cat/", "photos/test/cat/"]])
def test_a_single_class_is_refused(tmp_path, paths):
    write(tmp_path, *paths)
    with pytest.raises(ValueError, match=r"has one class folder, 'cat', and a classifier needs two or more; add"):
        opening.open_source(str(tmp_path), training=True)
    with pytest.raises(ValueError, match=r"has one class folder, 'cat'"):
        record_writing.write_records(tmp_path, tmp_path.with_name(f"{tmp_path.name}_records"))


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/cat/", "train/dog/", "Training/cat/"], "has the folders Training and train, each for training"),
        (["val/cat/", "val/dog/", "test/cat/"], "has the folders test, val, but no folder train with class folders"),
        (["cat/", "dog/", "test/cat/", "test/dog/"], "has class folders beside 'test', which is the name of a split"),
        (["cat/", "dog/", "test/"], "has class folders beside 'test', which is the name of a split; move the class"),
        (["cat/", "dog/", "train/", "val/"], "has class folders beside 'train', which is the name of a split"),
        (
            ["training_set/a/", "training_set/b/", "test_set/a/", "test_set/b/"],
            "have folders of the same names, so they",
        ),
        (
            ["cat/train/", "cat/test/", "dog/train/", "dog/test/"],
            "has a folder 'test', .* splits come first: .*test/cat",
        ),
        (["train/cat/", "train/dog/", "test/cat/", "test/dog/", "cat/"], "has the class folder 'cat' beside 'train'"),
        (["train/cat/", "train/dog/", "Test/cat/", "Test/dog/", "test/cat/", "test/dog/"], "has both Test and test"),
        (["ca\nt/", "dog/"], r"the class folder 'ca..nt' of .* has a name that cannot be printed; rename it"),
        (["a.png", "b.png"], "has no class folders; expected"),
        (["train/cat/", "train/dog/"], "has no default for evaluation; choose one of train"),
    ],
)
def test_other_arrangements_are_refused_with_the_way_out(tmp_path, paths, message):
    write(tmp_path, *paths)
    with pytest.raises(ValueError, match=message) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)


def test_a_class_called_train_is_a_class(tmp_path):
    write(tmp_path, "train/", "bus/")
    assert opened(tmp_path)[0] == ("bus", "train")


# ---- Files ----

LITTER = (
    *(".DS_Store", "._0.png", ".hidden/0.png", "Thumbs.db", "THUMBS.DB", "ehthumbs.db", "Desktop.ini", "Icon\r"),
    *("@eaDir/0.png", "$RECYCLE.BIN/0.png", "__MACOSX/._0.png", "lost+found/0.png", ".ipynb_checkpoints/0.png"),
    *("System Volume Information/0.png", "#recycle/0.png"),
)


@pytest.mark.parametrize("place", ["", "cat/", "cat/inner/"])
def test_what_systems_leave_is_no_data_and_no_news(tmp_path, caplog, place):
    write(tmp_path, "cat/", "cat/inner/", "dog/")
    before = opened(tmp_path)
    for name in LITTER:
        (tmp_path / place / name).parent.mkdir(exist_ok=True)
        (tmp_path / place / name).write_bytes(b"")
    assert opened(tmp_path) == before == (("cat", "dog"), 4, 2)
    assert caplog.text == ""


def test_files_that_are_no_images_by_their_name_are_left_out_and_counted_once(tmp_path, caplog):
    write(tmp_path, "cat/", "dog/")
    for i in range(6):
        (tmp_path / "cat" / f"notes{i}.txt").write_text("to do")
    (tmp_path / "labels.csv").write_text("")  # beside the class folders nobody expects images
    assert opened(tmp_path) == (("cat", "dog"), 2, 2)
    expected = (
        f"{tmp_path}: 6 files are no images by their names and are left out: "
        "cat/notes0.txt, cat/notes1.txt, cat/notes2.txt, cat/notes3.txt, cat/notes4.txt, ..."
    )
    assert [record.getMessage() for record in caplog.records] == [expected + "."]
    source = opening.open_source(str(tmp_path), training=True, on_bad_image="skip", max_bad_fraction=0)
    assert source.num_examples == 2  # the limit is of images alone
    assert source.left_out == (f"{expected}.",)


@pytest.mark.parametrize("name", ["a.JPG", "a.jfif", "a.tif", "a.TIFF", "a.avif", "a.HEIC", "a.webp", "a.jp2", "a.ppm"])
def test_images_are_known_by_any_usual_ending(name):
    assert folders.is_image_name(name)
    assert not folders.is_image_name(name + ".txt")


def test_linked_folders_and_files_are_followed(tmp_path):
    write(tmp_path, "elsewhere/eel/", "elsewhere/more/", "photos/cat/", "photos/dog/", "elsewhere/one.png")
    (tmp_path / "photos" / "eel").symlink_to(tmp_path / "elsewhere" / "eel")
    (tmp_path / "photos" / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "photos" / "dog" / "one.png").symlink_to(tmp_path / "elsewhere" / "one.png")
    assert opened(tmp_path / "photos") == (("cat", "dog", "eel"), 3 + 2 + 1, 3)


def test_images_without_a_class_and_links_to_nothing_are_named(tmp_path, caplog):
    write(tmp_path, "train/cat/", "train/dog/", "test/cat/a.png", "test/dog/a.png", "stray.png", "train/lost.jpg")
    (tmp_path / "train" / "kitty").symlink_to(tmp_path / "nowhere")
    opening.open_source(str(tmp_path), training=True)
    expected = "3 beside the class folders have no class and are left out: stray.png, train/kitty, train/lost.jpg"
    assert expected in caplog.text


def test_a_pipe_is_no_image(tmp_path, caplog):
    write(tmp_path, "cat/", "dog/")
    os.mkfifo(tmp_path / "cat" / "z.jpg")  # reading it would wait for ever
    assert opened(tmp_path) == (("cat", "dog"), 2, 2)
    assert "left out: cat/z.jpg" in caplog.text


def test_a_wrapper_that_links_back_is_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is a link back to a folder that it is in; remove it"):
        opening.open_source(str(tmp_path), training=True)


def test_a_link_back_is_named_and_not_followed(tmp_path, caplog):
    write(tmp_path, "cat/", "dog/")
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "all").symlink_to(tmp_path)
    assert opened(tmp_path)[0] == ("cat", "dog")
    assert f"{tmp_path / 'cat' / 'again'}: is a link back to a folder that it is in, and is not followed" in caplog.text


def test_a_link_to_nothing_is_named(tmp_path, caplog):
    write(tmp_path, "cat/", "dog/")
    (tmp_path / "cat" / "gone").symlink_to(tmp_path / "nowhere")
    opened(tmp_path)
    assert "1 file is no image by its name and is left out: cat/gone" in caplog.text
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"gone.png: is missing or no regular file.*--on_bad_image=skip"):
        record_writing.write_records(tmp_path, tmp_path.with_name(f"{tmp_path.name}_records"))


def test_listing_a_folder_sorts_images_from_other_files(tmp_path):
    write(tmp_path, "b/x.png", "a.png")
    (tmp_path / "b" / "x.txt").write_text("")
    assert folders.list_files(tmp_path) == (
        [os.path.join(tmp_path, "a.png"), os.path.join(tmp_path, "b", "x.png")],
        [os.path.join(tmp_path, "b", "x.txt")],
    )
