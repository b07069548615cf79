"""Name what is in pictures: the most probable classes of each image file, as a table or as JSON lines.

Images are files, folders (all images in them) and patterns. Without any: the first ten digits of scikit-learn's test
set, by the run in runs/pretrain.

    python recipes/predict.py
    python recipes/predict.py --weights=runs/mine cat.jpg folder/ "photos/*.png"
    python recipes/predict.py --weights=imagenet1k --model=b16 cat.jpg --json
    python recipes/predict.py --weights=runs/export cat.jpg

Exit code 0; 1 where some files could not be read, which standard error names; 2 for bad input, in one sentence.
"""

import common  # first: it imports TensorFlow without its start-up notes

# isort: split
import concurrent.futures
import glob
import itertools
import json
import os
import pathlib
import signal
import sys

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from tqdm import tqdm

import exported_model
import keras_mixer
import trained_model
from keras_mixer.data import checking, crops, decode, folders, permutations, pipeline, sources
from keras_mixer.data.folders import printable

FLAGS = flags.FLAGS
flags.DEFINE_string("weights", None, f"{trained_model.WEIGHTS_HELP} Or what recipes/export.py wrote.")
flags.DEFINE_string("model", None, trained_model.MODEL_HELP)
flags.DEFINE_integer("image_size", None, trained_model.SIZE_HELP)
flags.DEFINE_string(
    "crop", None, "resmall (paper's Table 3), resize (Table 2), or none; default that of the run's evaluation."
)
common.define_pixel_flags(of_run=True)
flags.adopt_module_key_flags(common)
flags.DEFINE_integer("top", 5, "Classes to name for each image.")
flags.DEFINE_integer("batch_size", 32, "Images that the model sees at a time.")
flags.DEFINE_string("precision", "float32", "float32 or mixed_bfloat16.")
flags.DEFINE_boolean("json", False, "Write a line of JSON for each image instead of the table.")


def main(argv):
    # ---- Settings ----
    for name in ("top", "batch_size"):
        if FLAGS[name].value < 1:
            raise ValueError(f"{name}: must be a positive number, got {FLAGS[name].value}.")
    if FLAGS.precision not in ("float32", "mixed_bfloat16"):
        raise ValueError(f"precision: must be float32 or mixed_bfloat16, got {FLAGS.precision!r}.")
    keras.config.set_dtype_policy(FLAGS.precision)
    paths = find_images(argv[1:])
    exported = exported_model.find(FLAGS.weights)
    start = exported.start if exported else trained_model.find()
    if start.num_classes is None:
        raise ValueError(f"weights: {start.name} has no head, so it names no class; give weights that have one.")
    size = exported.check_flags() if exported else (trained_model.image_size(start),) * 2

    # ---- Images and model ----
    crop = exported.crop if exported and FLAGS.crop is None else trained_model.crop_of(start)
    pixels = common.pixel_settings(start)
    names, load = (paths, file_loader(size, crop, pixels)) if argv[1:] else test_digits(start, size, pixels)
    run = exported.load() if exported else build(start, *size)

    # ---- Predictions, a batch at a time while the next one is read ----
    try:
        failed = predict_all(names, load, run, start)
    except BrokenPipeError:  # of `| head`, which wants no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    if failed:
        common.stop(f"{failed} of {len(names)} files could not be read.", common.EXIT_FAILED)


def predict_all(names, load, run, start):
    """Print the predictions for all images, and return how many could not be read."""
    failed = 0
    bar = tqdm(total=len(names), unit=" images", disable=not sys.stderr.isatty())
    width = max(len(printable(name)) for name in names)
    for batch, images, faults in batches(names, load):
        for fault in faults:
            failed += 1
            tqdm.write(f"error: {printable(fault)}", file=sys.stderr)
        if batch:
            decoded = keras_mixer.decode_predictions(
                probabilities_of(run, images), min(FLAGS.top, start.num_classes), trained_model.classes_of(start)
            )
            decoded = [[(k, printable(text), p) for k, text, p in best] for best in decoded]
            with bar.external_write_mode(file=sys.stdout):
                for name, best in zip(batch, decoded, strict=True):
                    print(json_line(name, best) if FLAGS.json else table(printable(name), best, width), flush=True)
        bar.update(len(batch) + len(faults))
    bar.close()
    return failed


def find_images(arguments):
    """Return the paths of all images that files, folders and patterns name, each once, in their order."""
    found = {}
    for argument in arguments:
        if not argument:
            raise ValueError("image: must name a file, a folder or a pattern, got an empty text.")
        sources.check_paths(image=argument)
        path = pathlib.Path(os.path.expanduser(argument))
        if path.is_dir():
            matches = images_of(path)
            fault = f"the folder {argument!r} has no images"
        elif os.path.lexists(path):
            matches, fault = [str(path)], ""
        else:
            found_here = sorted(glob.glob(str(path), recursive=True))
            inside = [images_of(p) if os.path.isdir(p) and "**" not in argument else [] for p in found_here]
            matches = [p for p in found_here if not os.path.isdir(p)] + list(itertools.chain(*inside))
            fault = (
                f"no file is called {argument!r}" if not glob.has_magic(argument) else f"no file matches {argument!r}"
            )
        if not matches:
            raise ValueError(f"image: {fault}; give files, folders or patterns such as 'photos/*.jpg'.")
        found |= dict.fromkeys(matches)
    return list(found)


def images_of(folder):
    """List the images of a folder, and say which files are left out."""
    images, others = folders.list_files(folder)
    folders.warn_of_others(folder, others if images else [])
    return images


def build(start, height, width):
    """Return images (B, height, width, 3) uint8 -> probabilities (B, K), by the weights of a `StartingPoint`."""
    model = trained_model.build(start, height, classes=start.num_classes, classifier_activation=None)
    activation = tf.nn.sigmoid if start.settings.get("loss") == "sigmoid" else tf.nn.softmax
    order = trained_model.pixel_order(start, height)

    @tf.function(reduce_retracing=True)
    def run(images):
        images = pipeline.to_model_range(permutations.permute(images, order))
        return activation(model(images, training=False))

    return run


def file_loader(size, crop, settings):
    """Return path -> (height, width, 3) uint8, as evaluation gives it to the model; it raises for other files."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def pixels(encoded):
        image = decode.decode_image(encoded, settings.alpha, settings.exif_rotation)
        return crops.evaluation_crop(image, crop, size, settings.antialias)

    return lambda path: pixels(checking.read_bytes(path)).numpy()


def test_digits(start, size, settings):
    """Return names and a loader of the first ten test digits, for weights that know digits."""
    digits = sources.open_source("digits", "test[:10]", training=False)
    if start.class_names is None or tuple(start.class_names) != digits.class_names:
        raise ValueError(f"image: {start.name} knows no digits, so give images, such as cat.jpg or 'photos/*.jpg'.")
    data = pipeline.eval_batches(digits, batch_size=10, image_size=size, pixels=settings)
    images, labels, _ = (array.numpy() for array in next(iter(data)))
    pixels = np.round((images + 1) * 127.5).astype(np.uint8)
    names = [f"test digit {i}, a {label}" for i, label in enumerate(labels)]
    return names, dict(zip(names, pixels, strict=True)).__getitem__


def batches(names, load):
    """Yield (names, images (B, H, W, 3) uint8, sentences about files that cannot be read), reading one batch ahead."""

    def read(name):
        try:
            return load(name), None
        except ValueError as error:
            return None, str(error)
        except tf.errors.OpError as error:
            return None, decode.describe_error(error, name)

    groups = [names[i : i + FLAGS.batch_size] for i in range(0, len(names), FLAGS.batch_size)]
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        waiting = [threads.submit(read, name) for name in groups[0]]
        for group, following in zip(groups, [*groups[1:], []], strict=True):
            ahead = [threads.submit(read, name) for name in following]
            results = [future.result() for future in waiting]
            waiting = ahead
            good = [(name, image) for name, (image, _) in zip(group, results, strict=True) if image is not None]
            yield [name for name, _ in good], np.array([i for _, i in good]), [fault for _, fault in results if fault]


def probabilities_of(run, images):
    """Return (B, K); the last batch is filled up, so that the model is compiled once."""
    filling = np.zeros((FLAGS.batch_size - len(images), *images.shape[1:]), np.uint8)
    whole = np.concatenate([images, filling]) if len(images) < FLAGS.batch_size else images
    return run(whole).numpy()[: len(images)]


def json_line(name, best):
    """One image's predictions as JSON."""
    found = [{"class": k, "name": text, "probability": round(p, 6)} for k, text, p in best]
    return json.dumps({"image": name, "predictions": found})


def table(name, best, width):
    """One image's predictions as lines: the name of the image, then probability and name of each class."""
    return "\n".join(f"{'' if i else name:{width}}  {p:7.2%}  {text}" for i, (_, text, p) in enumerate(best))


if __name__ == "__main__":
    common.run(main, positional=True)
