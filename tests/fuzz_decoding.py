"""Decode randomly damaged pictures of every kind, by every decoder; a process of its own, which a crash would end.

    python tests/fuzz_decoding.py <seed> <damaged copies of each picture>

Before each file its name is written, so that the last line names the one that ended the process. The very last is JSON:
how many files there were, how many each decoder took and refused, by how many MB the memory grew at most, and the
longest time of one file in seconds.
"""

import json
import os
import resource
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import encoded_images
import numpy as np
import tensorflow as tf

from keras_mixer.data import crops, decode
from keras_mixer.data.pixel_settings import PixelSettings

ENCODED = [tf.TensorSpec([], tf.string)]
DECODERS = {
    "with Python": lambda encoded: decode.decode_image(encoded),
    "in TensorFlow alone": lambda encoded: decode.decode_image(encoded, python=False),
    "colours under transparency": lambda encoded: decode.decode_image(encoded, alpha="drop"),
    "fused crop": lambda encoded: crops.decode_and_inception_crop(encoded, [0, 1], 32, pixels=PixelSettings("black")),
}
HEADER = 64  # bytes, where damage tells most


def damaged(encoded, rng):
    """Return a copy with one to three random faults."""
    data = bytearray(encoded)
    for _ in range(rng.integers(1, 4)):
        reach = min(len(data), HEADER if rng.random() < 0.5 else len(data))
        if reach < 12:
            break
        at = int(rng.integers(0, reach))
        kind = rng.integers(0, 6)
        if kind == 0:
            data[at] ^= 1 << rng.integers(0, 8)
        elif kind == 1:
            data[at] = rng.integers(0, 256)
        elif kind == 2:
            data[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + int(rng.integers(1, 64))]
        else:
            part = bytes(data[at : at + int(rng.integers(1, 256))])
            data[at:at] = part * int(rng.integers(1, 4))
    return bytes(data)


def main(seed, copies):
    graphs = {name: tf.function(function, input_signature=ENCODED) for name, function in DECODERS.items()}
    counts = {name: {"taken": 0, "refused": 0} for name in graphs}
    longest, kinds = 0.0, encoded_images.JPEGS | encoded_images.PNGS | encoded_images.PLAIN | encoded_images.OTHERS
    for graph in graphs.values():  # the first call traces
        graph(kinds["jpeg"])
    before = memory()
    for name, encoded in kinds.items():
        for copy in range(copies):
            data = tf.constant(damaged(encoded, np.random.default_rng([seed, copy, len(encoded)])))
            for decoder, graph in graphs.items():
                print(f"{name}, copy {copy}, {decoder}", flush=True)
                began = time.perf_counter()
                try:
                    graph(data)
                    counts[decoder]["taken"] += 1
                except tf.errors.InvalidArgumentError:
                    counts[decoder]["refused"] += 1
                longest = max(longest, time.perf_counter() - began)
    grown = memory() - before
    print(json.dumps({"files": copies * len(kinds), "counts": counts, "memory": grown, "longest": longest}))


def memory():
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
