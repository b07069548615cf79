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

from absl import flags

from keras_mixer.benchmark import peers, throughput
from keras_mixer.paper import MODELS
from keras_mixer.pictures.figure import new_figure

FLAGS: Any = flags.FLAGS
HERE = pathlib.Path(__file__).resolve().parent
DTYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "bfloat16": "bfloat16"}
BUSY = 0.3  # cores that others use, above which a machine is not idle


def check_flags(default_model: str) -> Any:
    """Refuse what cannot be measured, before anything starts; return the batch sizes and the ways to compile."""
    if FLAGS.model not in (None, *MODELS):
        raise ValueError(f"model: {FLAGS.model!r} is unknown; use one of {', '.join(MODELS)}.")
    check_choice("mode", FLAGS.mode, ("inference", "training", "both"))
    check_choice("precision", FLAGS.precision, tuple(DTYPES))
    check_choice("cores", FLAGS.cores, ("1", "all"))
    jax = os.environ.get("KERAS_BACKEND", "tensorflow") == "jax"
    compile_with = FLAGS.compile or ("xla" if jax else "graph")
    check_choice("compile", compile_with, ("graph", "xla", "both"))
    if jax and compile_with != "xla":
        raise ValueError(f"compile: {compile_with} is TensorFlow's; under KERAS_BACKEND=jax use --compile=xla.")
    if not FLAGS.seconds > 0:
        raise ValueError(f"seconds: must be positive, got {FLAGS.seconds}.")
    torch_peers = [name for name in FLAGS.compare if name != "keras_vit"]
    for name in torch_peers:
        peers.parse(name)
    if len(set(FLAGS.compare)) < len(FLAGS.compare):
        raise ValueError(f"compare: names one twice, {','.join(FLAGS.compare)!r}.")
    batch_sizes = whole_numbers("batch_sizes", FLAGS.batch_sizes)
    check_sides("image_size", [FLAGS.image_size] if FLAGS.image_size else [], default_model)
    if torch_peers:
        peers.check_python(FLAGS.peer_python)
    new_figure(1, 1)  # says at once where matplotlib is missing
    ways = ["graph", "xla"] if compile_with == "both" else [compile_with]
    return {"batch_sizes": batch_sizes, "compile": ways}


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: must be {', '.join(choices[:-1])} or {choices[-1]}, got {value!r}.")


def check_sides(name: str, sides: Any, default_model: str) -> None:
    """Refuse sides in pixels that the patches of --model do not divide."""
    model = FLAGS.model or default_model
    patch = 4 if model == "tiny" else int(model[1:])
    for side in sides:
        if side % patch:
            fitting = max(side // patch, 1) * patch
            raise ValueError(
                f"{name}: the {patch} px patches of {model} do not divide {side} px; use {fitting} or "
                f"{fitting + patch}."
            )


def whole_numbers(name: str, texts: Sequence[str]) -> list[int]:
    if not texts or not all(text.strip().isdecimal() and int(text) > 0 for text in texts):
        raise ValueError(f"{name}: must be positive whole numbers by commas, got {','.join(texts)!r}.")
    return sorted({int(text) for text in texts})


def dtypes_of_run() -> list[str]:
    """The dtypes in which some configuration multiplies matrices."""
    more = ["bfloat16" for name in FLAGS.compare if "bf16" in name]
    return list(dict.fromkeys([DTYPES[FLAGS.precision], *more]))


def start(name: str, spec: dict[str, Any], python: str = sys.executable) -> throughput.Child:
    """Start a measuring process."""
    spec = {"precision": FLAGS.precision, "cores": FLAGS.cores, **spec}
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


def start_peak(dtype: str) -> throughput.Child:
    precision = {dtype: precision for precision, dtype in DTYPES.items()}[dtype]
    try:
        return start(f"matmul {dtype}", dict(kind="peak", precision=precision, matmul_size=FLAGS.matmul_size))
    except throughput.ChildFailed as error:
        raise OSError(f"matmul_size: {error}") from None


def new_result(what: str, model: str) -> dict[str, Any]:
    """The fields that every report has."""
    named = {flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(sys.argv[0])}
    side = FLAGS.image_size or (16 if model == "tiny" else 224)
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    cores = "1 core" if FLAGS.cores == "1" else f"{throughput.cpu_name()}"
    busy = throughput.busy_cores()
    warning = ""
    if busy is not None and busy > BUSY:
        warning = f"; other programs kept {busy:.1f} cores busy"
        progress(f"WARNING{warning[1:]}: rates are too low, and those of torch the most.")
    about = f"{model}, {side} px, {FLAGS.precision}" if what == "speed" else f"{model}, {FLAGS.precision}"
    about = "start-up" if what == "start_up" else about
    return {
        "what": what,
        "title": f"{about}, {backend}, {cores}{warning}",
        "model": model,
        "image_size": side,
        "flags": dict(sorted(named.items())),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "busy_cores_before": None if busy is None else round(busy, 2),
        "python": sys.version.split()[0],
        "matmul_gflops": {dtype: [] for dtype in dtypes_of_run()},
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
