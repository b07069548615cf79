"""The same layers and models under KERAS_BACKEND=jax and torch; needs `pip install .[backends]`."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.backends
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_parity_training_and_saving(backend):
    result = subprocess.run(
        [sys.executable, "tests/backend_check.py", backend],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    print(result.stdout)
    assert result.returncode == 0, result.stderr
