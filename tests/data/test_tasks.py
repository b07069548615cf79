"""The 24 transfer tasks: their numbers, their labels, and batches from data laid out as TFDS prepares it.

TFDS's own classes give the features. Splits have their real sizes; shards begin where a task's parts begin, and hold
only the records that a test reads.
"""

import dataclasses
import itertools
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mixer.data import opening, pipeline, splits, task_labels, tasks
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.source import Source, indexed_records

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs" / "guides" / "paper_tasks.md"
SIZES = {  # of the splits that TFDS makes
    "imagenet2012": {"train": 1_281_167, "validation": 50_000},
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
    "oxford_iiit_pet": {"train": 3_680, "test": 3_669},
    "oxford_flowers102": {"train": 1_020, "validation": 1_020, "test": 6_149},
    "caltech101": {"train": 3_060, "test": 6_084},
    "dtd": {"train": 1_880, "validation": 1_880, "test": 1_880},
    "svhn_cropped": {"train": 73_257, "test": 26_032},
    "sun397": {"train": 76_128, "validation": 10_875, "test": 21_750},
    "patch_camelyon": {"train": 262_144, "validation": 32_768, "test": 32_768},
    "eurosat": {"train": 27_000},
    "resisc45": {"train": 31_500},
    "diabetic_retinopathy_detection": {"train": 35_126, "validation": 10_906, "test": 42_670},
    "clevr": {"train": 70_000, "validation": 15_000, "test": 15_000},
    "dmlab": {"train": 65_550, "validation": 22_628, "test": 22_735},
    "kitti": {"train": 6_347, "validation": 423, "test": 711},
    "dsprites": {"train": 737_280},
    "smallnorb": {"train": 24_300, "test": 24_300},
}
DEVELOPMENT_SIZES = {  # the full tasks: 1 %, 2 %, 2 %, 10 %, 10 % held out
    "imagenet": (1_268_355, 12_812),
    "cifar10": (49_000, 1_000),
    "cifar100": (49_000, 1_000),
    "pets": (3_312, 368),
    "flowers": (1_836, 204),
}
FINAL_SIZES = {"imagenet": 1_281_167, "cifar10": 50_000, "cifar100": 50_000, "pets": 3_680, "flowers": 2_040}
DEPTHS = (7.0, 8.2, 8.7, 9.2, 9.7, 12.0)  # one in each of CLEVR's classes
KITTI_OBJECTS = ([(0, 5.0)], [(1, 9.0), (0, 30.0)], [(2, 20.5), (3, 1.0)], [(3, 1.0)])  # (type, metres), one per class


def _base(task):
    return task.dataset.split(":")[0].split("/")[0]


def _special(base, i):
    """Features that make record i of class i modulo the number of classes, where that is not simply the label."""
    if base == "clevr":  # 3 + i objects, the nearest at the i-th depth
        depths = [DEPTHS[i % 6] + 3 * (j != i % 2) for j in range(3 + i % 8)]
        return {"objects": [{"pixel_coords": np.array([9, 9, depth], np.float32)} for depth in depths]}
    if base == "kitti":
        objects = KITTI_OBJECTS[i % 4]
        return {"objects": [{"type": kind, "location": np.array([1, 2, z], np.float32)} for kind, z in objects]}
    if base == "dsprites":  # of the bins, the last position and the first orientation
        image = np.pad(np.ones((32, 32, 1), np.uint8), ((16, 16), (16, 16), (0, 0)))
        return {"image": image, "label_x_position": 2 * (i % 16) + 1, "label_orientation": math.ceil((i % 16) * 2.5)}
    if base == "smallnorb":
        return {"label_azimuth": i % 18, "label_elevation": i % 9}
    return {}


def _example(feature, special, i):
    """A value of any TFDS feature: `special` where it says so, i as class label, and blank otherwise."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.FeaturesDict):
        return {key: _example(value, special.get(key), i) for key, value in feature.items()}
    if isinstance(feature, tfds.features.Sequence):
        return [_example(feature.feature, value, 0) for value in special or []]
    if special is not None:
        return special
    if isinstance(feature, tfds.features.Image):
        height, width, channels = feature.shape
        return np.full((height or 12, width or 20, channels), 200, np.uint8)
    if isinstance(feature, tfds.features.ClassLabel):
        return i % feature.num_classes
    if isinstance(feature, tfds.features.BBoxFeature):
        return tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    if isinstance(feature, tfds.features.Text):
        return ""
    return np.zeros(feature.shape, np.float32)


def _shards(task, sizes):
    """Cut each split where a part of the task's begins or ends, and after a few test examples; say which are read."""
    wanted = {split: set() for split in sizes}
    for parts in (*task.develop, task.final[0]):
        for part in parts.split("+"):
            split, start, stop = splits.select(part, sizes, "x")
            wanted[split].add((start, stop))
    split, start, _ = splits.select(task.final[1], sizes, "x")
    wanted[split].add((start, start + 8))
    for split, size in sizes.items():
        edges = sorted({0, size, *(edge for piece in wanted[split] for edge in piece)})
        yield split, [(a, b, any(p <= a and b <= q for p, q in wanted[split])) for a, b in itertools.pairwise(edges)]


def _prepare(task, root):
    """Write what `download_and_prepare` leaves in `root`, without the records that no test reads."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(task.dataset, data_dir=root)
    folder, base = pathlib.Path(builder.data_path), _base(task)
    folder.mkdir(parents=True)
    features = builder.info.features
    period = math.lcm(*(t.num_classes for t in tasks.TASKS.values() if t.dataset == task.dataset))
    examples = (features.encode_example(_example(features, _special(base, i), i)) for i in range(period))
    records = [features.serialize_example(example) for example in examples]
    infos = []
    for split, shards in _shards(task, SIZES[base]):
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=builder.name, split=split, filetype_suffix="tfrecord"
        )
        lengths = [stop - start for start, stop, _ in shards]
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=0, filename_template=template))
        for i, (start, stop, is_read) in enumerate(shards):
            if not is_read:
                continue
            path = template.sharded_filepath(shard_index=i, num_shards=len(shards))
            with tf.io.TFRecordWriter(str(path)) as file:
                for k in range(start, min(stop, start + 4200)):  # a window of a shuffled pass
                    file.write(records[k % period])
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))
    builder.info.write_to_directory(folder)
    return str(root)


def _labels(source):
    return [int(label) for label in source.records(None, 0).map(lambda record: source.parse(record)[1])]


def _positions(split, sizes):
    """Yield the places of a sum of parts; record k of each split is of class k modulo the number of classes."""
    for part in split.split("+"):
        _, start, stop = splits.select(part, sizes, "x")
        yield from range(start, stop)


@pytest.mark.parametrize("key", tasks.TASKS)
def test_task_gives_its_examples_and_batches(key, tmp_path):
    task = tasks.get_task(key)
    sizes = SIZES[_base(task)]
    data_dir = _prepare(task, tmp_path)
    train, development = tasks.open_task(task, "develop", data_dir)
    everything, test = tasks.open_task(key, "final", data_dir)
    counts = [source.num_examples for source in (train, development, everything, test)]
    if task.group == "full":
        assert counts == [*DEVELOPMENT_SIZES[key], FINAL_SIZES[key], task.num_test]
    else:
        assert counts == [800, 200, 1000, task.num_test]
        assert task.final[0] == "+".join(task.develop)
        assert _labels(everything) == [k % task.num_classes for k in _positions(task.final[0], sizes)]
    for source in (train, development, everything, test):
        assert len(set(source.class_names)) == task.num_classes
        assert source.photographs == (task.group == "full")

    options = dict(batch_size=4, image_size=task.image_size)
    images, labels = next(
        iter(pipeline.train_batches(everything, seed=0, augmentation=Augmentation(task.augmentation), **options))
    )
    assert images.shape == (4, task.image_size, task.image_size, 3)
    assert labels.shape == (4, task.num_classes)
    np.testing.assert_array_equal(tf.reduce_sum(labels, axis=1), 1)
    images, labels, mask = next(iter(pipeline.eval_batches(test, **options)))
    assert images.shape == (4, task.image_size, task.image_size, 3)
    first = itertools.islice(_positions(task.final[1], sizes), 4)
    assert labels.numpy().tolist() == [k % task.num_classes for k in first]
    assert mask.numpy().tolist() == [1] * 4
    if task.image_scale == 255:
        assert (images.numpy().min(), images.numpy().max()) == (-1, 1)  # zeros and ones would leave it near -1


def test_there_are_five_full_tasks_and_nineteen_of_vtab():
    groups = [task.group for task in tasks.TASKS.values()]
    assert {g: groups.count(g) for g in groups} == {"full": 5, "natural": 7, "specialized": 4, "structured": 8}
    assert {task.steps for task in tasks.TASKS.values() if task.group != "full"} == {2500}
    steps = [task.steps for task in tasks.TASKS.values() if task.group == "full"]
    assert steps == [20_000, 10_000, 10_000, 500, 500]
    warmups = {"imagenet": 500, "cifar10": 500, "cifar100": 500, "pets": 100, "flowers": 100}
    assert all(task.warmup_steps == warmups.get(key, 200) for key, task in tasks.TASKS.items())
    assert len({(task.group == "full", task.title) for task in tasks.TASKS.values()}) == 24


def test_only_small_images_are_taken_at_224_in_vtab():
    small = [key for key, task in tasks.TASKS.items() if task.image_size == 224 and task.group != "full"]
    names = ("cifar100", "svhn", "eurosat", "dsprites_location", "dsprites_orientation")
    assert small == [f"vtab-{name}" for name in names]


VTAB_PERCENTS = {  # of train before the validation part, and before the test part where train has that too
    "caltech101": (90, None),
    "cifar100": (90, None),
    "svhn_cropped": (90, None),
    "clevr": (90, None),
    "oxford_iiit_pet": (80, None),
    "dsprites": (80, 90),
    "eurosat": (60, 80),
    "resisc45": (60, 80),
}


def test_vtab_parts_of_train_begin_after_the_benchmarks_percents():
    seen = set()
    for task in tasks.TASKS.values():
        (train, development), (_, test), base = task.develop, task.final, _base(task)
        if task.group == "full":
            continue
        assert train == "train[:800]"
        if not development.startswith("train["):
            assert development == ("test[:200]" if base == "smallnorb" else "validation[:200]")
            continue
        seen.add(base)
        size, (before, before_test) = SIZES[base]["train"], VTAB_PERCENTS[base]
        start = size * before // 100
        assert development == f"train[{start}:{start + 200}]"
        if before_test:
            assert test == f"train[{size * before // 100 + size * (before_test - before) // 100}:]"
    assert seen == set(VTAB_PERCENTS)


def test_vtab_images_are_taken_whole(tmp_path):
    task = tasks.get_task("vtab-dsprites_location")
    train, test = tasks.open_task(task, "final", _prepare(task, tmp_path))
    whole = np.pad(np.ones((32, 32, 3), np.float32), ((16, 16), (16, 16), (0, 0))) * 2 - 1
    for crop in ("resize", "resmall"):
        images, *_ = next(iter(pipeline.eval_batches(test, batch_size=4, image_size=64, crop=crop)))
        np.testing.assert_array_equal(images, [whole] * 4)
    batches = pipeline.train_batches(
        train, batch_size=4, image_size=64, seed=0, augmentation=Augmentation(task.augmentation)
    )
    np.testing.assert_array_equal(next(iter(batches))[0], [whole] * 4)


def test_the_hyper_rule_crops_and_mirrors_what_the_label_allows():
    """A picture whose columns differ: a crop shows some of them, a mirror image falls where the picture rises."""
    ramp = np.repeat(np.arange(0, 240, 4, np.uint8)[None, :, None], 60, axis=0).repeat(3, axis=2)
    records = indexed_records(8, lambda i: {"image": tf.constant(ramp), "label": i % 2})
    source = Source("ramp", 8, ("a", "b"), False, records, lambda r: (r["image"], r["label"]))
    for key, crops, flips in (
        ("vtab-dtd", True, True),
        ("vtab-svhn", True, False),
        ("vtab-clevr_count", False, True),
        ("vtab-dsprites_location", False, False),
    ):
        rule = Augmentation(**tasks.get_task(key).hyper_rule())
        images, _ = next(iter(pipeline.train_batches(source, batch_size=8, image_size=56, seed=0, augmentation=rule)))
        rows = images.numpy()[:, 0, :, 0]
        mirrored = rows[:, 0] > rows[:, -1]
        assert (mirrored.any() and not mirrored.all()) if flips else not mirrored.any()
        shown = abs(rows[:, -1] - rows[:, 0])
        whole = (shown > 1.8).all()  # of a range of 236 in 255 grey levels, so 1.85 in [-1, 1]
        assert whole != crops


def test_the_hyper_rule_has_the_sizes_of_bit_and_is_of_vtab_only():
    rules = [(task.image_size, task.hyper_rule()) for task in tasks.TASKS.values() if task.group != "full"]
    sides = {round(side / rule["crop_area"][0] ** 0.5) for side, rule in rules}
    assert sorted(sides) == [224, 280, 448, 478]  # 160 for 128, 512 for 480
    assert {*tasks.NO_CROP, *tasks.NO_FLIP} < {*tasks.TASKS}
    with pytest.raises(ValueError, match=r"^augmentation: hyper_rule is for tasks of VTAB-1k, which pets is not; "):
        tasks.get_task("pets").hyper_rule()
    with pytest.raises(ValueError, match=r"^crop_area: hyper_rule cuts out parts of one size, got \(0.05, 1.0\); give"):
        Augmentation("hyper_rule")


def test_structured_tasks_are_neither_flipped_nor_cropped_in_training():
    assert {task.augmentation for task in tasks.TASKS.values() if task.group != "full"} == {"none"}
    assert {task.augmentation for task in tasks.TASKS.values() if task.group == "full"} == {"paper"}


# ---- Labels that are computed ----


@pytest.mark.parametrize(("count", "label"), [(0, -3), (2, -1), (3, 0), (7, 4), (10, 7), (11, 8)])
def test_clevr_count(count, label):
    assert int(task_labels.clevr_count({"objects": {"size": np.zeros(count, np.int64)}})) == label


def _clevr(*depths):
    coordinates = np.array([[1, 2, depth] for depth in depths], np.float32).reshape(-1, 3)
    return int(task_labels.clevr_distance({"objects": {"pixel_coords": coordinates}}))


def _kitti(*objects):
    kinds, places = [kind for kind, _ in objects], [[50, 50, z] for _, z in objects]
    objects = {"type": np.array(kinds, np.int64), "location": np.array(places, np.float32).reshape(-1, 3)}
    return int(task_labels.kitti_distance({"objects": objects}))


@pytest.mark.parametrize(("edge", "label"), [(8, 0), (8.5, 1), (9, 2), (9.5, 3), (10, 4)])
def test_clevr_distance_on_an_edge_is_of_the_class_below(edge, label):
    assert _clevr(edge) == label
    assert _clevr(np.nextafter(np.float32(edge), np.float32(99))) == label + 1


def test_clevr_distance_is_that_of_the_nearest_object_and_refused_without_objects():
    assert _clevr(12, 8.7, 30) == 2
    assert _clevr() == len(task_labels.CLEVR_DISTANCE_NAMES)  # out of range, so `pipeline` stops there
    assert _clevr(-1) == -1


@pytest.mark.parametrize(("edge", "label"), [(8, 0), (20, 1)])
def test_kitti_distance_on_an_edge_is_of_the_class_below(edge, label):
    assert _kitti((0, edge)) == label
    assert _kitti((0, np.nextafter(np.float32(edge), np.float32(99)))) == label + 1


def test_kitti_distance_sees_cars_vans_and_trucks_only():
    assert [_kitti((kind, 5), (0, 25)) for kind in range(8)] == [0, 0, 0, 2, 2, 2, 2, 2]
    assert _kitti((3, 5), (7, 1)) == 3
    assert _kitti() == 3
    assert _kitti((0, -2)) == 0  # beside the camera


@settings(max_examples=50, deadline=None)
@given(st.floats(-99, 998, width=32, allow_subnormal=False))
def test_distances_agree_with_numpy_digitize(value):
    assert _kitti((2, value)) == np.digitize(np.float32(value), task_labels.KITTI_EDGES, right=True) - 1
    assert _clevr(value) == np.digitize(np.float32(value), task_labels.CLEVR_EDGES, right=True) - 1


def test_dsprites_bins_are_even():
    x = [int(task_labels.dsprites_x_position({"label_x_position": np.int64(i)})) for i in range(32)]
    assert x == [i // 2 for i in range(32)]
    orientation = [int(task_labels.dsprites_orientation({"label_orientation": np.int64(i)})) for i in range(40)]
    assert orientation == [math.floor(i / 2.5) for i in range(40)]
    assert np.bincount(orientation).tolist() == [3, 2] * 8


# ---- What is refused ----


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("vtab-clevr", "did you mean vtab-clevr_count or vtab-clevr_distance?"),
        ("oxford_iiit_pet", "did you mean pets or vtab-pets?"),
        ("imagent", "did you mean imagenet?"),
        ("KITTI", "did you mean vtab-kitti_distance?"),
        ("xyzq", "choose one of imagenet, cifar10,"),
        ("", "choose one of imagenet, cifar10,"),
    ],
)
def test_unknown_task_is_refused_with_near_names(key, hint):
    with pytest.raises(ValueError, match=r"^task: .* is not a task of the paper; ") as error:
        tasks.get_task(key)
    assert hint in str(error.value)


def test_unknown_phase_is_refused():
    with pytest.raises(ValueError, match=r"^phase: must be develop or final, got 'test'\."):
        tasks.open_task("pets", "test")


def test_missing_manual_download_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="dataset: TFDS could not download and prepare 'resisc45") as error:
        tasks.open_task("vtab-resisc45", "final", str(tmp_path), str(tmp_path / "nowhere"))
    assert "\n" not in str(error.value)


def test_data_of_another_dataset_are_refused(tmp_path):
    _prepare(tasks.get_task("cifar10"), tmp_path)
    folder = next(tmp_path.glob("cifar10/*"))
    for key, name in (("cifar100", "cifar100"), ("vtab-clevr_count", "clevr")):
        with pytest.raises(ValueError, match=rf"^dataset: .* holds cifar10, where {name}:3\S+ is needed; give its own"):
            tasks.open_task(key, "final", str(folder))
    assert tasks.open_task("cifar10", "final", str(folder))[1].num_examples == 10_000


def test_missing_label_is_named():
    import tensorflow_datasets as tfds

    from keras_mixer.data.tfds import find_keys

    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(), "kind": tfds.features.ClassLabel(num_classes=2)}
    )
    assert find_keys(features, "x") == ("image", "kind")
    with pytest.raises(ValueError, match=r"^dataset: 'x' has no class label 'azimuth'; it has kind\."):
        find_keys(features, "x", "azimuth")


def test_scene_without_annotations_stops_training(tmp_path):
    task = tasks.get_task("vtab-clevr_count")
    train, _ = tasks.open_task(task, "develop", _prepare(task, tmp_path))
    empty = lambda record: (train.parse(record)[0], tf.constant(-3, tf.int64))  # what `clevr_count` gives for one
    broken = dataclasses.replace(train, parse=empty)
    with pytest.raises(tf.errors.InvalidArgumentError, match=pipeline.LABEL_ERROR):
        next(
            iter(pipeline.train_batches(broken, batch_size=4, image_size=32, seed=0, augmentation=Augmentation("none")))
        )


def test_class_without_images_is_named(tmp_path):
    digits = opening.open_source("digits", "train[:5]", training=True)  # 0, 1, 2, 3, 4
    with pytest.raises(ValueError, match=r"^split: digits train\[:5\] has no image of 5, 6, 7 and 2 more \(5 of 10 "):
        tasks.check_every_class(digits)
    tasks.check_every_class(opening.open_source("digits", training=True))


def test_looking_for_empty_classes_reads_no_image_files(tmp_path):
    for name in ("ant", "bee"):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for i in range(4):
            (folder / f"{i}.png").touch()
    source = opening.open_source(str(tmp_path), training=True)
    for path in tmp_path.glob("train/*/*.png"):
        path.unlink()
    tasks.check_every_class(source)


def test_documentation_has_the_row_of_every_task():
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    rows = [[cell.strip(" `") for cell in line[1:-1].split("|")] for line in lines]
    rows = {key: cells for key, *cells in rows if len(cells) == 8}
    for task in tasks.TASKS.values():
        sizes = [f"{number:,}" for number in (task.num_test, task.image_size, task.steps)]
        assert rows[task.key] == [task.dataset, str(task.num_classes), *task.develop, task.final[1], *sizes]
        assert not task.manual or task.manual in DOCS.read_text(encoding="utf-8")
