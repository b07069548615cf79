"""What the parts of benchmark.py share: checks of flags, measuring processes, and the fields of a report.

This process loads no framework. Each configuration has a process of its own, child.py.
"""

import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from keras_mixer.benchmark import peers, throughput
from keras_mixer.benchmark.settings import Settings
from keras_mixer.paper import MODELS, usual_size
from keras_mixer.pictures.figure import new_figure

HERE = pathlib.Path(__file__).resolve().parent
DTYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "bfloat16": "bfloat16"}
BUSY = 0.3  # cores that others use, above which a machine is not idle


def check(settings: Settings, default_model: str) -> list[str]:
    """Refuse what cannot be measured, before anything starts; return the ways to compile."""
    jax = os.environ.get("KERAS_BACKEND", "tensorflow") == "jax"
    compile_with = settings.compile or ("xla" if jax else "graph")
    if jax and compile_with != "xla":
        raise ValueError(f"compile: {compile_with} is TensorFlow's; under KERAS_BACKEND=jax use --compile=xla.")
    if not settings.seconds > 0:
        raise ValueError(f"seconds: must be positive, got {settings.seconds}.")
    torch_peers = [name for name in settings.compare if name != "keras_vit"]
    for name in torch_peers:
        peers.parse(name)
    if len(set(settings.compare)) < len(settings.compare):
        raise ValueError(f"compare: names one twice, {','.join(settings.compare)!r}.")
    check_sides("image_size", [settings.image_size] if settings.image_size else [], settings.model or default_model)
    if torch_peers:
        peers.check_python(settings.peer_python)
    new_figure(1, 1)  # says at once where matplotlib is missing
    return ["graph", "xla"] if compile_with == "both" else [compile_with]


def check_sides(name: str, sides: Sequence[int], model: str) -> None:
    """Refuse sides in pixels that the patches of a model do not divide."""
    patch = MODELS[model]["patch_size"]
    for side in sides:
        if side % patch:
            fitting = max(side // patch, 1) * patch
            raise ValueError(
                f"{name}: the {patch} px patches of {model} do not divide {side} px; use {fitting} or "
                f"{fitting + patch}."
            )


def dtypes_of_run(settings: Settings) -> list[str]:
    """The dtypes in which some configuration multiplies matrices."""
    more = ["bfloat16" for name in settings.compare if "bf16" in name]
    return list(dict.fromkeys([DTYPES[settings.precision], *more]))


def start(settings: Settings, name: str, spec: dict[str, Any], python: str = sys.executable) -> throughput.Child:
    """Start a measuring process."""
    spec = {"precision": settings.precision, "cores": settings.cores, **spec}
    paths = [str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Several processes share a GPU: none may take all its memory at once.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # Compile times are of a first run.
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    }
    return throughput.Child(name, [python, str(HERE / "child.py"), json.dumps(spec)], env)


def start_peak(settings: Settings, dtype: str) -> throughput.Child:
    precision = {dtype: precision for precision, dtype in DTYPES.items()}[dtype]
    try:
        return start(
            settings, f"matmul {dtype}", dict(kind="peak", precision=precision, matmul_size=settings.matmul_size)
        )
    except throughput.ChildFailed as error:
        raise OSError(f"matmul_size: {error}") from None


def new_result(settings: Settings, what: str, model: str) -> dict[str, Any]:
    """The fields that every report has."""
    side = settings.image_size or usual_size(model)
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    cores = "1 core" if settings.cores == "1" else f"{throughput.cpu_name()}"
    busy = throughput.busy_cores()
    warning = ""
    if busy is not None and busy > BUSY:
        warning = f"; other programs kept {busy:.1f} cores busy"
        progress(f"WARNING{warning[1:]}: rates are too low, and those of torch the most.")
    about = f"{model}, {side} px, {settings.precision}" if what == "speed" else f"{model}, {settings.precision}"
    about = "start-up" if what == "start_up" else about
    return {
        "what": what,
        "title": f"{about}, {backend}, {cores}{warning}",
        "model": model,
        "image_size": side,
        "flags": settings.as_json(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "busy_cores_before": None if busy is None else round(busy, 2),
        "python": sys.version.split()[0],
        "matmul_gflops": {dtype: [] for dtype in dtypes_of_run(settings)},
        "rows": [],
    }


def name_device(result: dict[str, Any]) -> None:
    """Have the title name the device that ours found, which is not the CPU where there is a GPU."""
    devices = [row["facts"]["device"] for row in result["rows"] if "facts" in row]
    if devices:
        result["title"] = result["title"].replace(throughput.cpu_name(), devices[0])


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def finish(text: str, paths: Any, failed: Any) -> None:
    """Print the report; something that could not be measured is exit code 1."""
    print(text)
    print(f"Written: {', '.join(str(path) for path in paths)}")
    if failed:
        print(f"error: {len(failed)} configuration(s) not measured: {failed[0]}", file=sys.stderr)
        sys.exit(1)
