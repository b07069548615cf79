"""Compile a StableHLO module for a TPU that is not there, and print what came of it as JSON.

    $KERAS_MIXER_TPU_PYTHON tests/tpu/compile_for_tpu.py step.mlirbc --topology=v5e:1x1

Runs in an environment with jax[tpu] and without TensorFlow (docs/results/many_devices.md). libtpu holds the compiler
that runs on a TPU VM, and compiles for a described chip without one. The module is what TensorFlow's
`function.experimental_get_compiler_ir(*args)(stage="stablehlo_serialized")` returns, for one replica.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import time

os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # or libtpu asks Google's metadata service, which only a TPU VM has
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # its lock is for the chips of this machine, and none is used
os.environ["JAX_PLATFORMS"] = "cpu"  # what runs here; the TPU is only compiled for

from jax.experimental import topologies
from jax.interpreters import mlir
from jaxlib import xla_client
from jaxlib.mlir import ir


def describe(topology):
    """Return the devices of a TPU such as "v5e:1x1" or "v3:2x2", which need not exist."""
    one_chip = {"chips_per_host_bounds": (1, 1, 1)} if topology.endswith(":1x1") else {}
    return topologies.get_topology_desc(topology, platform="tpu", **one_chip).devices


def compile_module(serialized, device):
    """Compile a module's bytes for one device; return the executable."""
    context = mlir.make_ir_context()
    with context:
        module = ir.Module.parse(serialized)
        remove_copies(module)
    return device.client.compile(module, xla_client.DeviceList((device,)), xla_client.CompileOptions())


def remove_copies(module):
    """Replace each `mhlo.copy` by its operand.

    TensorFlow copies every variable that a step assigns where it becomes a result. It is the identity, and no part of
    StableHLO, so that the compiler behind PJRT refuses it.
    """
    copies = []

    def note(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(note)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()


def memory(stats):
    """Bytes on one device; a result that takes an argument's place (`alias`) is counted once in the total."""
    parts = {name: getattr(stats, f"{name}_size_in_bytes") for name in ("argument", "output", "alias", "temp")} | {
        "code": stats.generated_code_size_in_bytes
    }
    total = parts["argument"] + parts["output"] - parts["alias"] + parts["temp"] + parts["code"]
    return parts | {"total": total}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=pathlib.Path)
    parser.add_argument("--topology", default="v5e:1x1")
    args = parser.parse_args()
    device = describe(args.topology)[0]
    start = time.perf_counter()
    executable = compile_module(args.module.read_bytes(), device)
    result = {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "libtpu": importlib.metadata.version("libtpu"),
        "compile_seconds": round(time.perf_counter() - start, 1),
        "memory_bytes": memory(executable.get_compiled_memory_stats()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
