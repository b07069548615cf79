"""The 24 tasks that the paper transfers to: five on all of their data, and the 19 of VTAB-1k on 1,000 images each.

docs/guides/paper_tasks.md has the table, and says where each number comes from.
"""

import dataclasses
import difflib
from typing import Any

import tensorflow as tf

from keras_mixer.data import task_labels
from keras_mixer.data.source import Source, check_paths

PHASES = ("develop", "final")
FULL_RATES = (0.003, 0.01, 0.03, 0.06)
VTAB_RATES = (0.003, 0.01, 0.03)
VTAB_STEPS, VTAB_WARMUP_STEPS = 2500, 200
SMALL, LARGE = 224, 448  # pixels
# BiT's hyper-rule: the fraction of an image that a training crop shows, 128 of 160 px and 480 of 512 px on a side.
_CROP_AREAS = {SMALL: (128 / 160) ** 2, LARGE: (480 / 512) ** 2}
# Tasks whose label a crop may make wrong, and those whose label a mirror image makes wrong; each with the reason.
NO_CROP = {
    "vtab-camelyon": "the label is that of the centre",
    "vtab-retinopathy": "the label is that of the worst lesion, wherever it is",
    "vtab-clevr_count": "an object that is cut off counts",
    "vtab-clevr_distance": "the nearest object may be cut off, and a part of the image makes all look nearer",
    "vtab-dmlab": "the object may be cut off, and a part of the image makes it look nearer",
    "vtab-kitti_distance": "the nearest vehicle may be cut off, and a part of the image makes all look nearer",
    "vtab-dsprites_location": "the position is one in the image",
    "vtab-dsprites_orientation": "the shape may be cut off, and its angle with it",
}
NO_FLIP = {
    "vtab-svhn": "a mirrored digit is another sign or none",
    "vtab-dsprites_location": "left becomes right",
    "vtab-dsprites_orientation": "the angle changes its sign",
    "vtab-smallnorb_azimuth": "the angle changes its sign",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """One transfer task.

    Attributes:
        key: as given to `get_task`.
        title: as in tables of results.
        group: "full", or of VTAB-1k "natural", "specialized" or "structured".
        dataset: TFDS name, config and version.
        num_classes: of the labels.
        develop: (training split, evaluation split) to choose a learning rate with.
        final: (training split, test split) for the result that is reported.
        num_test: examples in the test split.
        image_size: side in pixels. For the full tasks that of most of the paper's Table 3; its Table 2 has 448.
        steps: of fine-tuning, with batches of 512.
        warmup_steps: of these, the linear rise.
        learning_rates: the grid to choose from on `develop`.
        augmentation: that of an `Augmentation`; the whole image, only resized, for VTAB-1k.
        manual: what must be put into TFDS's manual directory by hand; empty where TFDS downloads everything.
        label: name of the feature that is the label, or a function of the example, from `task_labels`.
        class_names: of labels that are computed; else empty, and the dataset's own are taken.
        image_scale: factor of the pixels; 255 for images of zeros and ones.
    """

    key: str
    title: str
    group: str
    dataset: str
    num_classes: int
    develop: tuple[str, str]
    final: tuple[str, str]
    num_test: int
    image_size: int
    steps: int
    warmup_steps: int
    learning_rates: tuple[float, ...]
    augmentation: str
    manual: str = ""
    label: task_labels.Label = "label"
    class_names: tuple[str, ...] = ()
    image_scale: int = 1

    def hyper_rule(self) -> dict[str, Any]:
        """Return the arguments of an `Augmentation` that is BiT's, as far as the label of the task allows it.

        Raises:
            ValueError: for a task that is not of VTAB-1k.

        Example:
            >>> get_task("vtab-clevr_count").hyper_rule()
            {'augmentation': 'hyper_rule', 'crop_area': (1.0, 1.0), 'flip_rate': 0.5}
        """
        if self.group == "full":
            raise ValueError(f"augmentation: hyper_rule is for tasks of VTAB-1k, which {self.key} is not; use paper.")
        area = 1.0 if self.key in NO_CROP else _CROP_AREAS[self.image_size]
        flip_rate = 0.0 if self.key in NO_FLIP else 0.5
        return {"augmentation": "hyper_rule", "crop_area": (area, area), "flip_rate": flip_rate}


# What TFDS cannot download.
MANUAL = {
    "imagenet": "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, from image-net.org",
    "vtab-resisc45": "the folder NWPU-RESISC45 that its .rar file holds, unpacked",
    "vtab-retinopathy": "from Kaggle, unpacked: train, test and sample, trainLabels.csv and sampleSubmissions.csv",
}

# Key, title, classes, dataset, steps, percent to develop on, what to train on in the end, test split and its examples.
_FULL = (
    ("imagenet", "ImageNet", 1000, "imagenet2012:5.*.*", 20_000, 99, ("train",), "validation", 50_000),
    ("cifar10", "CIFAR-10", 10, "cifar10:3.*.*", 10_000, 98, ("train",), "test", 10_000),
    ("cifar100", "CIFAR-100", 100, "cifar100:3.*.*", 10_000, 98, ("train",), "test", 10_000),
    ("pets", "Pets", 37, "oxford_iiit_pet:4.*.*", 500, 90, ("train",), "test", 3_669),
    ("flowers", "Flowers", 102, "oxford_flowers102:2.*.*", 500, 90, ("train", "validation"), "test", 6_149),
)

# Group, name, title, classes, dataset, the 200 images to develop on, test split and its examples, image size. The 800
# are the first of train. Without a validation split the 200 are the first after 90 % of train; after 80 % for Pets and
# dSprites, 60 % for EuroSAT and Resisc45; and the first of test for SmallNORB, which is tested on the other half of it.
_VAL = "validation[:200]"
_RETINOPATHY = "diabetic_retinopathy_detection/btgraham-300:3.*.*"
_CLEVR = ("clevr:3.*.*", "train[63000:63200]", "validation", 15_000, LARGE)  # its test set has no annotations
_DSPRITES = ("dsprites:2.*.*", "train[589824:590024]", "train[663552:]", 73_728, SMALL)
_SMALLNORB = ("smallnorb:2.*.*", "test[:200]", "test[50%:]", 12_150, LARGE)
_VTAB = (
    ("natural", "caltech101", "Caltech101", 102, "caltech101:3.*.*", "train[2754:2954]", "test", 6_084, LARGE),
    ("natural", "cifar100", "CIFAR-100", 100, "cifar100:3.*.*", "train[45000:45200]", "test", 10_000, SMALL),
    ("natural", "dtd", "DTD", 47, "dtd:3.*.*", _VAL, "test", 1_880, LARGE),
    ("natural", "flowers", "Flowers102", 102, "oxford_flowers102:2.*.*", _VAL, "test", 6_149, LARGE),
    ("natural", "pets", "Pets", 37, "oxford_iiit_pet:4.*.*", "train[2944:3144]", "test", 3_669, LARGE),
    ("natural", "svhn", "SVHN", 10, "svhn_cropped:3.*.*", "train[65931:66131]", "test", 26_032, SMALL),
    ("natural", "sun397", "Sun397", 397, "sun397/tfds:4.*.*", _VAL, "test", 21_750, LARGE),
    ("specialized", "camelyon", "Camelyon", 2, "patch_camelyon:2.*.*", _VAL, "test", 32_768, LARGE),
    ("specialized", "eurosat", "EuroSAT", 10, "eurosat/rgb:2.*.*", "train[16200:16400]", "train[21600:]", 5_400, SMALL),
    ("specialized", "resisc45", "Resisc45", 45, "resisc45:3.*.*", "train[18900:19100]", "train[25200:]", 6_300, LARGE),
    ("specialized", "retinopathy", "Retinopathy", 5, _RETINOPATHY, _VAL, "test", 42_670, LARGE),
    ("structured", "clevr_count", "Clevr-Count", 8, *_CLEVR),
    ("structured", "clevr_distance", "Clevr-Dist", 6, *_CLEVR),
    ("structured", "dmlab", "DMLab", 6, "dmlab:2.0.*", _VAL, "test", 22_735, LARGE),
    ("structured", "kitti_distance", "KITTI-Dist", 4, "kitti:3.*.*", _VAL, "test", 711, LARGE),
    ("structured", "dsprites_location", "dSpr-Loc", 16, *_DSPRITES),
    ("structured", "dsprites_orientation", "dSpr-Ori", 16, *_DSPRITES),
    ("structured", "smallnorb_azimuth", "sNORB-Azim", 18, *_SMALLNORB),
    ("structured", "smallnorb_elevation", "sNORB-Elev", 9, *_SMALLNORB),
)
# Where it is not the feature called label: what it is, class names where computed, image scale.
_LABELS: dict[str, tuple[task_labels.Label, tuple[str, ...], int]] = {
    "clevr_count": (task_labels.clevr_count, task_labels.CLEVR_COUNT_NAMES, 1),
    "clevr_distance": (task_labels.clevr_distance, task_labels.CLEVR_DISTANCE_NAMES, 1),
    "kitti_distance": (task_labels.kitti_distance, task_labels.KITTI_NAMES, 1),
    "dsprites_location": (task_labels.dsprites_x_position, task_labels.DSPRITES_NAMES, 255),
    "dsprites_orientation": (task_labels.dsprites_orientation, task_labels.DSPRITES_NAMES, 255),
    "smallnorb_azimuth": ("label_azimuth", (), 1),
    "smallnorb_elevation": ("label_elevation", (), 1),
}


def _full(row: tuple[Any, ...]) -> Task:
    key, title, num_classes, dataset, steps, percent, parts, *test = row
    train, held_out = ("+".join(f"{part}[{place}]" for part in parts) for place in (f":{percent}%", f"{percent}%:"))
    return Task(
        *(key, title, "full", dataset, num_classes, (train, held_out), ("+".join(parts), test[0]), test[1]),
        *(SMALL, steps, 100 if steps == 500 else 500, FULL_RATES, "paper", MANUAL.get(key, "")),
    )


def _vtab(row: tuple[Any, ...]) -> Task:
    group, name, title, num_classes, dataset, val200, test, num_test, image_size = row
    key, train800 = f"vtab-{name}", "train[:800]"
    return Task(
        *(key, title, group, dataset, num_classes, (train800, val200), (f"{train800}+{val200}", test), num_test),
        *(image_size, VTAB_STEPS, VTAB_WARMUP_STEPS, VTAB_RATES, "none", MANUAL.get(key, "")),
        *_LABELS.get(name, ("label", (), 1)),
    )


TASKS = {task.key: task for task in (*map(_full, _FULL), *map(_vtab, _VTAB))}


def get_task(key: str) -> Task:
    """Return the `Task` of a key, such as "pets" or "vtab-clevr_count".

    Raises:
        ValueError: for another key, naming near ones.

    Example:
        >>> get_task("vtab-clevr_count").final
        ('train[:800]+train[63000:63200]', 'validation')
    """
    if key in TASKS:
        return TASKS[key]
    text = str(key).lower()
    near = [name for name, task in TASKS.items() if text and text in f"{name} {task.title} {task.dataset}".lower()]
    near = near or difflib.get_close_matches(text, TASKS, n=3) or list(TASKS)
    hint = f"did you mean {' or '.join(near)}?" if len(near) <= 4 else f"choose one of {', '.join(near)}."
    raise ValueError(f"task: {key!r} is not a task of the paper; {hint}")


def open_task(
    task: Task | str, phase: str, data_dir: str | None = None, manual_dir: str | None = None
) -> tuple[Source, Source]:
    """Return the sources to train on and to evaluate on.

    Those of VTAB-1k are no `photographs`, so that `pipeline.eval_batches` takes the whole image whatever the crop, as
    training does with the task's `augmentation`. A record whose label is not in range is refused by `pipeline`.

    Args:
        task: a `Task` or its key.
        phase: "develop" to choose a learning rate, or "final".
        data_dir, manual_dir: as for `opening.open_source`.

    Raises:
        ValueError: for an unknown task or phase, data that TFDS cannot get, or a folder of another dataset.

    Example:
        >>> train, development = open_task("pets", "develop", data_dir="tensorflow_datasets")  # doctest: +SKIP
        >>> train.num_examples, development.num_examples  # doctest: +SKIP
        (3312, 368)
    """
    task = task if isinstance(task, Task) else get_task(task)
    if phase not in PHASES:
        raise ValueError(f"phase: must be {' or '.join(PHASES)}, got {phase!r}.")
    check_paths(data_dir=data_dir, manual_dir=manual_dir)
    from keras_mixer.data.tfds import Reading, tfds_source  # takes seconds to import

    reading = Reading(task.label, task.class_names, task.group == "full", task.image_scale)
    splits = task.develop if phase == "develop" else task.final
    train, evaluation = (
        tfds_source(task.dataset, split, data_dir, manual_dir, training, reading)
        for split, training in zip(splits, (True, False), strict=True)
    )
    return train, evaluation


def check_every_class(source: Source) -> None:
    """Raise a ValueError naming the classes of which a source has no image.

    Reads the labels only; of TFRecords that takes reading all of the file. Meant for the part of a user's own images
    that is left to train on: the 800 images of VTAB-1k may leave classes out by definition.

    Example:
        >>> from keras_mixer.data import opening
        >>> check_every_class(opening.open_source("digits", "train[:90%]", training=True))
    """
    labels = source.records(None, 0).map(lambda record: source.parse(record)[1], num_parallel_calls=tf.data.AUTOTUNE)
    found = {int(label) for batch in labels.batch(1024) for label in batch}
    missing = [name for label, name in enumerate(source.class_names) if label not in found]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(
            f"split: {source.name} has no image of {', '.join(missing[:3])}{more} ({len(missing)} of "
            f"{len(source.class_names)} classes); use a larger part of the images, or add some to the class."
        )
