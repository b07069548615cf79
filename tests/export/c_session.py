"""Run an exported Mixer in a process without Python: `loader.c`, built against the TensorFlow that is installed."""

import pathlib
import struct
import subprocess

import c_program
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

SOURCE = pathlib.Path(__file__).parent / "loader.c"


def build(folder):
    """Compile the program, and return its path."""
    return c_program.build(SOURCE, folder)


def run(program, exported, folder, requests):
    """Run requests (signature, images) in one process.

    Returns:
        For each a dict of arrays, or the message of its error.
    """
    meta_graph = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes()).meta_graphs[0]
    lines, files = [], []
    for i, (name, images) in enumerate(requests):
        signature = meta_graph.signature_def[name]
        path = folder / f"request_{i}"
        path.write_bytes(_packed(images))
        kind = {"uint8": "uint8", "float32": "float"}.get(images.dtype.name, "string")
        outputs = {key: (info.name, folder / f"answer_{i}_{key}") for key, info in signature.outputs.items()}
        words = [signature.inputs["images"].name, kind, path, images.ndim, *images.shape]
        lines.append(" ".join(map(str, [*words, *(word for pair in outputs.values() for word in pair)])))
        files.append(
            {key: (path, tf.dtypes.as_dtype(signature.outputs[key].dtype)) for key, (_, path) in outputs.items()}
        )
    result = subprocess.run(
        [program, exported], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    answers = result.stdout.splitlines()
    return [
        {key: _unpacked(*file) for key, file in outputs.items()} if answer == "ok" else answer
        for answer, outputs in zip(answers, files, strict=True)
    ]


def _packed(images):
    if images.dtype != object:
        return images.tobytes()
    return b"".join(struct.pack("<Q", len(text)) + text for text in images.ravel())


def _unpacked(path, dtype):
    data = path.read_bytes()
    rank = struct.unpack_from("<q", data)[0]
    shape, data = struct.unpack_from(f"<{rank}q", data, 8), data[8 + 8 * rank :]
    if dtype != tf.string:
        return np.frombuffer(data, dtype.as_numpy_dtype).reshape(shape)
    texts = []
    while data:
        size = struct.unpack_from("<Q", data)[0]
        texts.append(data[8 : 8 + size])
        data = data[8 + size :]
    return np.array(texts, object).reshape(shape)
