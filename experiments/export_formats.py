"""What each exported format of one Mixer costs and how exactly it answers: docs/results/export.md.

    python experiments/export_formats.py --weights=runs/pretrain/model.keras
    python experiments/export_formats.py --model=b16 --rounds=5

Without --weights the body is random, and so is the head, but scaled so that the classes of photographs differ. Each
measurement is a process of its own with two threads, one at a time; a round measures every row once. It writes
export_formats.md and .json into --output, beside the exported files, which stay there.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_mixer.benchmark.markdown import table

BATCH = 32
ROWS = {  # name -> file of the exported format
    "Keras, graph": "model.keras",
    "Keras, XLA": "model.keras",
    "SavedModel": "saved_model/1",
    "SavedModel, jit_compile": "saved_model_jit/1",
    "SavedModel, bfloat16 storage": "saved_model_bfloat16/1",
    "LiteRT float32": "float32.tflite",
    "LiteRT float16": "float16.tflite",
    "LiteRT int8": "int8.tflite",
    "ONNX Runtime": "model.onnx",
    "OpenVINO, SavedModel, f32": "saved_model/1",
    "OpenVINO, SavedModel, its default": "saved_model/1",
    "OpenVINO, ONNX, f32": "model.onnx",
}
PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "onnx", "onnxruntime", "tf2onnx", "openvino")


def prepare(args):
    """Write the model in every format, the images, and what Keras answers."""
    import keras

    import keras_mixer
    from keras_mixer import export

    keras.utils.set_random_seed(0)
    if args.weights and args.weights.endswith(".keras"):
        model = keras.saving.load_model(args.weights, compile=False)
    else:
        model = getattr(keras_mixer, f"Mixer{args.model.upper()}")(weights=args.weights)
    side = model.input_shape[1]
    images, calibration = digits(side, args.images) if side <= 64 else photographs(side, args.images)
    if not args.weights:
        give_head(model, calibration)
    model.save(args.output / "model.keras")
    np.save(args.output / "images.npy", images)
    np.save(args.output / "expected.npy", predict(runner("Keras, graph", args), images))
    print("exporting", flush=True)
    export.saved_model(model, args.output / "saved_model", overwrite=True)
    export.saved_model(model, args.output / "saved_model_jit", jit_compile=True, overwrite=True)
    export.saved_model(model, args.output / "saved_model_bfloat16", storage="bfloat16", overwrite=True)
    export.onnx(model, args.output / "model.onnx", overwrite=True)
    export.litert(model, args.output / "float32.tflite", overwrite=True)
    export.litert(model, args.output / "float16.tflite", "float16", overwrite=True)
    export.litert(model, args.output / "int8.tflite", "int8", calibration, overwrite=True)


def digits(side, count):
    """Return `count` handwritten digits, and 100 others, as (N, side, side, 3) uint8."""
    from keras import ops
    from sklearn.datasets import load_digits

    grey = ops.image.resize(load_digits().images[::-1, ..., None].astype("float32"), (side, side))
    pixels = np.repeat(np.clip(np.rint(ops.convert_to_numpy(grey) * 255 / 16), 0, 255).astype("uint8"), 3, axis=-1)
    return pixels[:count], pixels[-100:]


def photographs(side, count):
    """Return `count` images, a fifth of them noise and the rest cuts of photographs, and 100 other cuts, as uint8."""
    import tensorflow as tf
    from sklearn.datasets import load_sample_images

    from keras_mixer.export.single_file import check_images

    photos = load_sample_images().images
    rng = np.random.default_rng(0)

    def cut(k):
        photo = photos[k % len(photos)]
        size = int(rng.integers(100, min(photo.shape[:2]) + 1))
        top, left = (int(rng.integers(0, full - size + 1)) for full in photo.shape[:2])
        part = photo[top : top + size, left : left + size][:, :: rng.choice([-1, 1])]
        part = tf.image.resize(part, (side, side), antialias=True) * rng.uniform(0.5, 1.2)
        return np.clip(np.rint(part), 0, 255).astype("uint8")

    cuts = [cut(k) for k in range(count - count // 5 + 100)]
    noise = check_images((side, side, 3), count // 5).astype("uint8")
    return np.concatenate([cuts[100:], noise]), np.stack(cuts[:100])


def give_head(model, images):
    """Set the head to random directions, about the mean of the pre-logits and so long that logits of images are +-4."""
    import keras

    pre_logits = keras.Model(model.input, model.get_layer("pre_logits").output)
    x = pre_logits.predict(keras_preprocess(images), batch_size=BATCH, verbose=0)  # (N, C)
    kernel = np.random.default_rng(0).standard_normal((x.shape[1], model.output_shape[1]))  # (C, K)
    kernel = (kernel * 4 / np.std((x - x.mean(0)) @ kernel)).astype("float32")
    model.get_layer("head").set_weights([kernel, -x.mean(0) @ kernel])


def keras_preprocess(images):
    return images.astype("float32") / np.float32(127.5) - np.float32(1)


def runner(name, args):
    """Return the function of a row: images (B, H, W, 3) uint8 -> probabilities (B, K)."""
    path = str(args.output / ROWS[name])
    if name.startswith("ONNX"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda x: session.run(["probabilities"], {"images": x.astype("float32")})[0]
    if name.startswith("LiteRT"):
        from ai_edge_litert.interpreter import Interpreter

        run = Interpreter(model_path=path, num_threads=args.threads).get_signature_runner("serving_default")
        return lambda x: run(images=x.astype("float32"))["probabilities"]
    if name.startswith("OpenVINO"):
        import openvino

        model = openvino.convert_model(path, output=["probabilities"])
        config = {"INFERENCE_NUM_THREADS": args.threads}
        if name.endswith("f32"):
            config["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = openvino.Core().compile_model(model, "CPU", config)
        of_uint8 = compiled.input(0).get_element_type() == openvino.Type.u8
        return lambda x: compiled(x if of_uint8 else x.astype("float32"))[0]
    import tensorflow as tf

    if args.measure:  # else TensorFlow has begun
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    if name.startswith("SavedModel"):
        loaded = tf.saved_model.load(path)  # must outlive the signature
        signature = loaded.signatures["serving_default"]
        return lambda x, loaded=loaded: signature(images=tf.constant(x))["probabilities"].numpy()
    import keras

    import keras_mixer  # noqa: F401 (its layers, by name, are in the file)

    model = keras.saving.load_model(path, compile=False)
    function = tf.function(lambda x: model(x, training=False), jit_compile=name.endswith("XLA"))
    return lambda x: function(tf.constant(keras_preprocess(x))).numpy()


def predict(run, images):
    return np.concatenate([run(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])


def measure(args):
    """Print one row's numbers as JSON: a line after the first answer, which the parent times, and one at the end."""
    import resource

    images = np.load(args.output / "images.npy")
    run = runner(args.measure, args)
    run(images[:1])
    print("answered", flush=True)
    result = {}
    if args.exact:
        found, expected = predict(run, images), np.load(args.output / "expected.npy")
        result["difference"] = float(np.abs(found - expected).max())
        result["agreement"] = float(np.mean(found.argmax(-1) == expected.argmax(-1)))
    result["latency_ms"] = 1e3 * seconds(run, images[:1], args.seconds)
    result["images_per_second"] = BATCH / seconds(run, np.resize(images, (BATCH, *images.shape[1:])), args.seconds)
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps(result), flush=True)


def seconds(run, images, budget):
    """Return the median seconds of a call, of at least three."""
    run(images)  # compiles for this batch
    times, end = [], time.perf_counter() + budget
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def size(path):
    """Return the bytes of a file or of all files of a folder."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def child(args, *flags):
    """Start this script again, with the same flags and others; return the process and when it started."""
    command = [sys.executable, __file__, *sys.argv[1:], f"--output={args.output}", *flags]
    errors = open(args.output / "errors.txt", "w")  # noqa: SIM115 (the child's, until it ends)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True), time.perf_counter()


def read(args, process, started):
    """Return (seconds until the first line, last line) of a child that must end well."""
    lines, first = [], None
    for line in process.stdout:
        first = first or time.perf_counter() - started
        lines.append(line)
    if process.wait():
        raise SystemExit(f"a child failed:\n{(args.output / 'errors.txt').read_text()[-2000:]}")
    return first, lines[-1]


def machine():
    """Return what the numbers depend on."""
    info = pathlib.Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(), "versions": versions}


COLUMNS = (
    *("format", "MB", "largest difference", "same best class", "ms, batch 1", "images/s, batch 32", "cold start, s"),
    "peak MiB",
)


def table_of(args, results):
    """Return the Markdown table: the ranges of the rounds."""

    def reach(rounds, key, digits):
        least, most = (f"{end(r[key] for r in rounds):.{digits}f}" for end in (min, max))
        return least if least == most else f"{least} to {most}"

    rows = []
    for name, rounds in results.items():
        cells = [name, f"{size(args.output / ROWS[name]) / 1e6:.1f}"]
        cells += [f"{rounds[0]['difference']:.1g}", f"{100 * rounds[0]['agreement']:.1f} %"]
        cells += [reach(rounds, "latency_ms", 0), reach(rounds, "images_per_second", 2)]
        cells += [reach(rounds, "cold_start_s", 1), f"{max(r['peak_mib'] for r in rounds):,.0f}"]
        rows.append(cells)
    return table(COLUMNS, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a .keras file; or an .npz or a released name, of --model")
    parser.add_argument("--model", default="s16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timing")
    parser.add_argument("--images", type=int, default=160, help="whose answers are compared")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/export_formats"))
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--exact", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prepare:
        prepare(args)
        return
    if args.measure:
        measure(args)
        return
    args.output.mkdir(parents=True, exist_ok=True)
    read(args, *child(args, "--prepare"))
    results = {name: [] for name in ROWS if args.rows in name}
    for i in range(args.rounds):
        for name, rounds in results.items():
            first, last = read(args, *child(args, f"--measure={name}", *(["--exact"] if i == 0 else [])))
            rounds.append(json.loads(last) | {"cold_start_s": first})
            print(f"round {i}: {name}: {rounds[-1]}", flush=True)
    text = table_of(args, results)
    report = {"model": args.weights or args.model, "threads": args.threads, "machine": machine(), "rows": results}
    (args.output / "export_formats.json").write_text(json.dumps(report, indent=2) + "\n")
    (args.output / "export_formats.md").write_text(f"{text}\n{json.dumps(report['machine'])}\n")
    print(text)


if __name__ == "__main__":
    main()
