"""Import TensorFlow without its start-up notes. A recipe imports this before anything that imports TensorFlow."""

import os
import sys

# Errors come as exceptions, too; on standard error they would hide our own sentence. 0 shows everything.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow computes through oneDNN only where it finds AVX-512. Without it RandAugment's Sharpness is off by one in a
# pixel of 200, and numbers are others than on the next machine.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# MiB that TensorFlow's client asks for at a time of a file in a bucket: 64 by itself, where a read of records needs 2.
os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "2")
if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    print("error: KERAS_BACKEND: the recipes train with tensorflow; unset it or set it to that.", file=sys.stderr)
    sys.exit(2)

# TensorFlow's C++ code writes to file descriptor 2 before it reads its own log level. A Python error still shows, since
# the descriptor is put back first.
if sys.stderr is None:  # closed: what would be written there is lost
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
sys.stderr.flush()
_stderr = os.dup(2)
_nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
try:
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for GPUs, and notes where there is no driver
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_nowhere)
