"""What `--tpu` says of hosts that are missing, that have no TPU, and that go; a process of its own, for the test.

    PYTHONPATH=.:tests python tests/tpu/lost_host.py FOLDER

Connecting to a cluster changes TensorFlow for the whole process. Prints a line for each.
"""

import os
import pathlib
import sys

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TPU_SKIP_MDS_QUERY": "1"}

import pod
import tensorflow as tf
from cluster import free_ports

from keras_mixer.training import strategies


def say(addresses):
    """Print what a user reads who gives these hosts to `--tpu`."""
    try:
        strategies.make_strategy("tpu", tpu=",".join(f"grpc://{address}" for address in addresses))
    except ValueError as error:
        print(error, flush=True)


def main(folder):
    with pod.hosts(folder, 2, 1) as (addresses, processes):
        say([*addresses, f"127.0.0.1:{free_ports(1)[0]}"])
        say(addresses)
        make = lambda part: tf.data.Dataset.range(10**6).map(lambda i: i + part[0]).batch(1)
        batches = iter(strategies.distribute(pod.PodInput(2, 1), make, 2))
        next(batches)
        processes[1].kill()
        processes[1].wait()
        try:
            for batch in batches:
                [value.numpy() for value in batch.values]
        except strategies.LOST as error:
            print(type(error).__name__, flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
    os._exit(0)  # TensorFlow would wait for the host that has gone
