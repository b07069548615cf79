"""The folder of a finished training run that never ran: small files by hand, with names that are no friends of HTML."""

import csv
import json

import numpy as np
import tensorflow as tf

from keras_mixer.data.source import Source, indexed_records
from keras_mixer.evaluation import report_files
from keras_mixer.evaluation.predictions import Predictions
from keras_mixer.report import evidence, kept, occlusion
from keras_mixer.training.metrics import COLUMNS

NAMES = ("<script>alert('class')</script>", "cat & dog", 'a "quoted" name', "elephant")
FILES = "photos/<img src=x onerror=alert(1)>/{}.png"
RESULT = {
    "steps": 40,
    "images_seen": 2560,
    "top1": 0.7833333333333333,
    "top5": 1.0,
    "loss": 0.61234567,
    "num_examples": 60,
    "resumed_at_step": 0,
    "images_per_second": 1234.5,
    "training_seconds": 75.3,
    "checkpoint_seconds": 0.1,
}


def predictions(seed=0, classes=4):
    """60 images, of which the first 47 are hits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, 60)
    rank = np.where(np.arange(60) < 47, 0, 1).astype(np.int32)
    predicted = np.where(rank < 1, labels, (labels + 1) % classes)
    confidence = rng.uniform(0.3, 1, 60).astype(np.float32)
    return Predictions(labels, predicted, confidence, rank, rng.uniform(0, 1, 60).astype(np.float32), classes)


def source(names=NAMES):
    """A source of 60 grey squares."""
    found = predictions(classes=len(names))
    images = np.tile(np.arange(60, dtype=np.uint8)[:, None, None, None] * 4, (1, 8, 8, 3))
    gather = lambda i: {"image": tf.gather(images, i), "label": tf.gather(found.labels, i)}
    return Source(
        name="squares <test>",
        num_examples=60,
        class_names=tuple(names),
        photographs=False,
        records=indexed_records(60, gather),
        parse=lambda record: (record["image"], record["label"]),
        left_out=("photos: 2 files are <b>no images</b> by their names and are left out.",),
    )


def write_metrics(folder, rate=0.01):
    """Write metrics.csv of 20 rows, each second one evaluated."""
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for step in range(2, 42, 2):
            row = {"step": step, "learning_rate": rate * step / 40, "train_loss": 2 / step, "train_top1": step / 50}
            row |= {"gradient_norm": 1 + 1 / step, "weight_norm": 3, "images_per_second": 1200}
            if step % 4 == 0:
                row |= {"eval_loss": 3 / step, "eval_top1": step / 60, "eval_top5": 1}
            writer.writerow(row)


def write_run(folder, with_images=True, pictures=True, **settings):
    """Write the folder, with what was said of images and how they look; return its path."""
    folder.mkdir(parents=True)
    values = {"batch_size": 64, "learning_rate": 0.01, "seed": 0, "dataset": "my photos", "model": "tiny", **settings}
    flags = {**values, "image_size": 8, "workdir": str(folder), "freeze": ["stem", "block_?"]}
    about = {
        "settings": {**values, "class_names": list(NAMES), "train_images": 120, "eval_images": 60},
        "flags": flags,
        "num_parameters": 75530,
        "versions": {"keras_mixer": "0.1.0", "machine": "x86_64, 2 cores, 0 GPUs"},
        "command": ["pretrain", "--dataset=my photos", "--total_steps=40", f"--workdir={folder}"],
        "defaults": {"dataset": "digits", "image_size": None, "freeze": []},
    }
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "result.json").write_text(json.dumps(RESULT))
    write_metrics(folder, values["learning_rate"])
    if with_images:
        write_images(folder, pictures)
    return folder


def write_images(folder, pictures=True):
    """Write what an evaluation of every image leaves, from predictions made by hand."""
    found, data = predictions(), source()
    seen = report_files.look_at(found, data, dict(image_size=8), "", pictures)
    seen = report_files.Seen({i: FILES.format(i) for i in seen.files}, seen.images)
    report_files.write(folder, found, data, seen, pictures=False)
    kept.keep(folder, evidence.of_images(found, NAMES, seen) | evidence.of_data(training=data, evaluation=data))
    if pictures:
        places = occlusion.boxes((8, 8), 4)
        drops = np.linspace(-0.2, 0.5, 8 * len(places)).reshape(8, -1)
        kept.keep(folder, evidence.of_occlusion(found, NAMES, seen, drops, places))
        batch = np.stack([seen.images[i] for i in sorted(seen.images)[:4]])
        kept.keep(folder, evidence.of_batch(batch, np.eye(4)[:, :4], NAMES))
        rng = np.random.default_rng(0)
        kept.keep(folder, evidence.of_weights(rng.normal(size=(4, 4, 3, 6)), {0: rng.normal(size=(4, 6))}, (2, 2)))
