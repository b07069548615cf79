"""Fixtures that several tests use, and a quiet, deterministic Keras."""

import ctypes
import gc
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do, whatever the CPU

import keras
import numpy as np
import pytest

# OpenVINO does without; it would fork this whole process to send statistics.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

GOLDEN = pathlib.Path(__file__).parent / "golden"
ROOT = pathlib.Path(__file__).parent.parent
# Without it a CPU sums a product of fewer rows in another order, and has no units for bfloat16.
AVX512 = "avx512" in pathlib.Path("/proc/cpuinfo").read_text()


@pytest.fixture(scope="session")
def golden():
    """The authors' tiny Flax model: checkpoint, images, every intermediate, and 24-step training runs."""
    with np.load(GOLDEN / "flax_mixer_tiny.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(autouse=True, scope="module")
def _memory():
    """Give back what the tests of a file held, else a worker grows by gigabytes."""
    yield
    keras.backend.clear_session()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
