"""The input of a v3-32 made on its four hosts, which are processes without Python; a process of its own, for the test.

    PYTHONPATH=.:tests python tests/tpu/pod_run.py RECORDS FOLDER

Connecting to a cluster changes TensorFlow for the whole process. Writes `<what>.npz` into FOLDER: for each tensor of
the first batches the rows of all replicas, in their order, and those of the batch that one machine makes.
"""

import functools
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pod
import tensorflow as tf
from keras_mixer.recipes import pretrain

from keras_mixer.cli import inputs, presets
from keras_mixer.data import opening, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.mixing import Finish
from keras_mixer.data.source import Source, indexed_records
from keras_mixer.training import strategies

HOSTS, CORES, BATCH_SIZE, BATCHES = 4, 8, 4096, 2


def numbered(count):
    """A source of `count` pictures of 2 x 2 pixels, each another."""
    numbers = np.arange(count)
    images = np.stack([numbers // 256, numbers % 256] * 2, axis=-1).astype(np.uint8).reshape(count, 2, 2, 1)
    labels = (numbers % 10).astype(np.int64)
    records = indexed_records(count, lambda i: {"image": tf.gather(images, i), "label": tf.gather(labels, i)})
    return Source("numbers", count, tuple("0123456789"), False, records, lambda r: (r["image"], r["label"]))


def share(hosts, make, batch_size, folder, name, finish=None):
    """Have the hosts make the batches, and this machine as well; write both, and where a replica's rows lay.

    What the hosts make crosses to the replicas as bytes; `finish` is what a replica does to it.
    """
    parts, places = [], []
    of_part = lambda part: parts.append(part) or make(part)
    batches = iter(
        strategies.distribute(pod.PodInput(hosts, CORES), of_part, batch_size, finish.neighbours if finish else 0)
    )
    finish, arrays = finish or (lambda *tensors: tensors), {}
    for k, whole in zip(range(BATCHES), make((0, 1)), strict=False):
        tensors = next(batches)
        places = [value.device for value in tensors[0].values]
        replicas = zip(*([value.numpy() for value in per_replica.values] for per_replica in tensors), strict=True)
        finished = [finish(*map(tf.constant, of_replica)) for of_replica in replicas]
        for i, expected in enumerate(finish(*whole)):
            arrays[f"pod/{k}/{i}"] = np.stack([tensors[i] for tensors in finished])
            arrays[f"whole/{k}/{i}"] = expected.numpy()
    np.savez(folder / f"{name}.npz", parts=parts, places=places, **arrays)


def main(records, folder):
    numbers = dict(batch_size=BATCH_SIZE, image_size=2, seed=5, augmentation=Augmentation("none", mixup_alpha=0.5))
    settings, _ = presets.fill(pretrain.Settings(model="b16", batch_size=2 * CORES * 2, image_size=32), "imagenet21k")
    source = opening.open_source(records, "train", training=True)
    with pod.hosts(folder, HOSTS, CORES) as (addresses, _):
        # As `TPUStrategy`'s client connects.
        tf.config.experimental_connect_to_cluster(tf.train.ClusterSpec({"worker": addresses}))
        make = functools.partial(pipeline.train_batches, numbered(5_000), as_bytes=True, **numbers)
        share(HOSTS, lambda part: make(part=part), BATCH_SIZE, folder, "numbers", Finish(numbers["augmentation"], 10))
        make = lambda part: inputs.byte_batches(settings, source, 0, part)
        finish = Finish(inputs.augmentation(settings), len(source.class_names))
        share(2, make, settings.batch_size, folder, "preset", finish)
        make = lambda part: pipeline.eval_batches(source, batch_size=64, image_size=32, as_bytes=True, part=part)
        share(2, make, 64, folder, "evaluation")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
