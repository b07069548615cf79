"""Export a trained Mixer for serving: a versioned SavedModel for TensorFlow Serving, LiteRT and ONNX files.

Without flags: the run in runs/pretrain becomes runs/export/1, which TensorFlow Serving mounts as it is.

    python recipes/export.py
    python recipes/export.py --weights=runs/mine --output=served --version=2
    python recipes/export.py --weights=imagenet1k --model=b16 --storage=bfloat16 --output=served
    python recipes/export.py --formats=saved_model,litert,onnx --litert_quantization=int8

The files of a version lie in <output>/<version>/; model.tflite and model.onnx beside the folders of the versions, in
<output>/, where TensorFlow Serving does not look. docs/export.md has the signatures.
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import json
import os
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags

from keras_mixer import export
from keras_mixer.class_names import imagenet_classes
from keras_mixer.cli import checkpoint_flags, shared_flags
from keras_mixer.data import checking, crops, decode, folders, opening, pipeline
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.export import model_card, version_folder
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint
from keras_mixer.types import Path

FORMATS: dict[str, Any] = {"saved_model": None, "litert": "model.tflite", "onnx": "model.onnx"}
CALIBRATION_IMAGES = 200

FLAGS: Any = flags.FLAGS
checkpoint_flags.define_weights()
checkpoint_flags.define_view()
for module in (shared_flags, checkpoint_flags):  # so that --help shows their flags
    flags.adopt_module_key_flags(module)
flags.DEFINE_string("formats", "saved_model", f"One or several of {', '.join(FORMATS)}, with commas between them.")
flags.DEFINE_string("output", "runs/export", "Folder of the versions, for TensorFlow Serving to watch.")
flags.DEFINE_integer("version", 1, "Number of the version; TensorFlow Serving takes the largest.")
flags.DEFINE_integer("top", 5, "Classes that are named for an image; fewer where the head has fewer.")
flags.DEFINE_string("storage", "float32", "float32, or bfloat16 or float16: half the bytes, and rounded weights.")
flags.DEFINE_boolean("jit_compile", False, "Compile the Mixer with XLA, again for each size of a batch.")
flags.DEFINE_string("litert_quantization", "none", "Of model.tflite: none, float16, or int8, which needs calibration.")
flags.DEFINE_string("calibration_images", None, "Folder of images to calibrate int8; default those of the run.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps the dataset of the run, to calibrate int8.")
flags.DEFINE_boolean("overwrite", False, "Replace what an earlier export wrote, once the new files are whole.")


def main(_: list[str]) -> None:
    # ---- Settings ----
    formats = FLAGS.formats.split(",")
    if not set(formats) <= set(FORMATS):
        names = ", ".join(FORMATS)
        raise ValueError(f"formats: must be some of {names}, with commas between them, got {FLAGS.formats!r}.")
    if FLAGS.litert_quantization not in ("none", "float16", "int8"):
        raise ValueError(f"litert_quantization: must be none, float16 or int8, got {FLAGS.litert_quantization!r}.")
    if FLAGS.top < 1:
        raise ValueError(f"top: must be a positive number, got {FLAGS.top}.")
    output = check_output(formats)
    start = checkpoint_flags.find()
    if start.num_classes is None:
        raise ValueError(f"weights: {start.name} has no head, so it names no class; give weights that have one.")
    if start.permutation[0] != "none":
        raise ValueError(
            f"weights: {start.name} was trained on images whose pixels are permuted, which nobody sends a server; give "
            "weights of a run with --permutation=none."
        )
    side, crop = start.side(FLAGS.image_size), checkpoint_flags.check_crop() or start.crop()
    pixels = shared_flags.pixel_settings(start)
    int8 = "litert" in formats and FLAGS.litert_quantization == "int8"
    calibration = calibration_images(start, side, crop, pixels) if int8 else None

    # ---- Model and files ----
    options = dict(classes=start.num_classes, classifier_activation=start.activation, name=model_name(start))
    model = start.build(side, pixels.channels, **options)
    print(f"{start.name}: {model.count_params():,} parameters, {side} px, {start.num_classes:,} classes, crop {crop}")
    try:
        if "saved_model" in formats:
            classes = start.names()
            folder = export.saved_model(
                model,
                output,
                class_names=imagenet_classes(classes) if isinstance(classes, str) else classes,
                version=FLAGS.version,
                crop=crop,
                pixels=pixels,
                top=FLAGS.top,
                storage=FLAGS.storage,
                jit_compile=FLAGS.jit_compile,
                card=card(start),
                overwrite=FLAGS.overwrite,
            )
            difference = json.loads((folder / "export.json").read_text("utf-8"))["largest_difference"]
            print(f"  {folder}/  {size_of(folder):,} bytes, reloaded: at most {difference:.1e} from the Keras model")
        output.mkdir(parents=True, exist_ok=True)
        quantization = None if FLAGS.litert_quantization == "none" else FLAGS.litert_quantization
        if "litert" in formats:
            path = export.litert(model, output / FORMATS["litert"], quantization, calibration, FLAGS.overwrite)
            print(f"  {path}  {size_of(path):,} bytes, {quantization or 'float32'}")
        if "onnx" in formats:
            path = export.onnx(model, output / FORMATS["onnx"], FLAGS.overwrite)
            print(f"  {path}  {size_of(path):,} bytes")
    except export.ExportError as error:
        entry.stop(str(error), entry.EXIT_FAILED)
    except ImportError as error:
        entry.stop(str(error))
    if "saved_model" in formats:
        print("Serve it, REST on port 8501 and gRPC on 8500; model_card.md in the folder says how to ask:")
        print(f"  {model_card.serving_command(shlex.quote(str(output.resolve())))}")


def check_output(formats: Sequence[str]) -> pathlib.Path:
    """Return --output as a path, or refuse what would not be written in the end."""
    output = version_folder.check_output(FLAGS.output)
    if FLAGS.version < 0:
        raise ValueError(f"version: must be a whole number of at least 0, got {FLAGS.version}.")
    if "saved_model" in formats:
        version_folder.check_version(output, FLAGS.version, FLAGS.overwrite)
    for path in [output / FORMATS[name] for name in formats if FORMATS[name]]:
        if path.exists() and not FLAGS.overwrite:
            raise FileExistsError(f"output: {path} exists; choose another --output, or --overwrite to replace it.")
    return output


def model_name(start: StartingPoint) -> str | None:
    """Return for example mixer_b16, or None for a Mixer of other sizes than the variants'."""
    grown = {"tokens_mlp_dim": start.sizes["tokens_mlp_dim"]}  # with the image size
    names = [name for name, sizes in MODELS.items() if sizes | grown == start.sizes]
    return f"mixer_{names[0]}" if names else None


def card(start: StartingPoint) -> dict[str, Any]:
    """Return what model_card.md tells of the weights: their name, and of a run its data and accuracy."""
    told: dict[str, Any] = {"Weights": start.name}
    dataset = start.settings.get("dataset")
    if dataset:
        told["Trained on"] = dataset
        told["Training images"] = start.settings.get("train_images")
    try:
        result = json.loads((pathlib.Path(start.weights).parent / "result.json").read_text())
    except (OSError, ValueError):
        result = {}
    if dataset and "top1" in result:
        images = f"{result['num_examples']:,} held-out images" if "num_examples" in result else "the held-out images"
        told["Accuracy"] = f"top-1 {result['top1']:.2%}, measured on {images} of {dataset}"
        if "top5" in result:
            told["Accuracy"] += f"; top-5 {result['top5']:.2%}"
    return {name: value for name, value in told.items() if value is not None}


def calibration_images(start: StartingPoint, side: int, crop: str, pixels: PixelSettings) -> np.ndarray:
    """Return (N, side, side, 3) uint8: --calibration_images, or images of the dataset that the run trained on."""
    if FLAGS.calibration_images is not None:
        folder = pathlib.Path(FLAGS.calibration_images).expanduser()
        paths = folders.list_files(folder)[0] if folder.is_dir() else []
        if not paths:
            raise ValueError(f"calibration_images: {folder} has no images; give a folder that has some.")
        chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(CALIBRATION_IMAGES, len(paths))).astype(int)]
        return np.stack([_pixels(path, side, crop, pixels) for path in chosen])
    dataset = start.settings.get("dataset")
    if dataset is None:
        raise ValueError(f"calibration_images: {start.name} says no dataset; give a folder of images like yours.")
    source = opening.open_source(
        dataset,
        start.settings.get("train_split"),
        training=True,
        data_dir=FLAGS.data_dir,
        seed=start.settings.get("split_seed") or 0,
    )
    options: dict[str, Any] = {} if crop == "none" else {"crop": crop}
    options |= dict(batch_size=CALIBRATION_IMAGES, image_size=side, pixels=pixels)
    batches = pipeline.eval_batches(source, **options)
    images, _, mask = next(iter(batches))
    return np.round((images.numpy()[mask.numpy() > 0] + 1) * 127.5).astype(np.uint8)


def _pixels(path: Path, side: int, crop: str, pixels: PixelSettings) -> np.ndarray:
    try:
        image = decode.decode_image(checking.read_bytes(path), pixels.alpha, pixels.exif_rotation)
        return crops.evaluation_crop(image, crop, side, pixels.antialias).numpy()
    except tf.errors.OpError as error:
        raise ValueError(f"calibration_images: {decode.describe_error(error, os.fspath(path))}") from None


def size_of(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(os.path.getsize(p) for p in files)


if __name__ == "__main__":
    entry.run(main)
