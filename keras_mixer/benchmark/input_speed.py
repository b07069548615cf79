"""How fast an input pipeline runs, in images per second of CPU time: photographs to measure with, clock and report."""

import io
import math
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_mixer.benchmark import markdown, speed_report
from keras_mixer.pictures.figure import new_figure
from keras_mixer.types import Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# From a number of elements to a dataset that ends after them, or to the seconds of CPU time that another process took
# for them; and images per element.
Stage = tuple[Callable[[int], Any], int]
Rates = Mapping[str, Sequence[float]]  # of stages by their names, images/s in each round
TITLES = {  # report -> the first column of its table, by which experiments/refresh.py finds it
    "input_speed": "images/s per core",
    "input_timm": "images/s per core, beside timm",
    "input_phone": "images/s per core, 12 megapixels",
}
CHUNK = 16  # results taken from tf.data at a time, so that Python costs nothing


def use_one_core() -> None:
    """Let TensorFlow run one operation at a time on one thread; call it before anything is computed."""
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)


def photographs(count: int, height: int = 375, width: int = 500) -> list[bytes]:
    """Return `count` encoded JPEGs, random cuts of the photographs that scikit-learn and scikit-image ship.

    A cut is never enlarged, so that the files are as sharp as photographs are. Nothing is downloaded.

    Raises:
        ValueError: for a count that is not positive, or images larger than the photographs.

    Example:
        >>> photographs(1)[0][:3]
        b'\\xff\\xd8\\xff'
    """
    from PIL import Image  # comes with matplotlib, the extra plot; scikit-learn's loader needs it as well

    originals = [p for p in _originals() if p.shape[0] >= height and p.shape[1] >= width]
    if count < 1 or not originals:
        raise ValueError(f"photographs: cannot make {count} of {height} x {width} pixels; the largest is 427 x 640.")
    rng = np.random.default_rng(0)
    files = []
    for k in range(count):
        pixels = originals[k % len(originals)]
        zoom = rng.uniform(1, min(pixels.shape[0] / height, pixels.shape[1] / width))
        sides = round(height * zoom), round(width * zoom)
        top, left = (int(rng.integers(0, full - side + 1)) for full, side in zip(pixels.shape, sides, strict=False))
        cut = pixels[top : top + sides[0], left : left + sides[1]]
        file = io.BytesIO()
        Image.fromarray(cut).resize((width, height)).save(file, "JPEG", quality=92)
        files.append(file.getvalue())
    return files


def of_images(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], images: tf.Tensor) -> Stage:
    """Return a stage for `measure` that applies `function(image, k)` to the images in turn.

    Only one number of each result leaves it: the measurement is of the function alone.
    """

    def one(k: tf.Tensor) -> tf.Tensor:
        return tf.reshape(function(tf.gather(images, k % len(images)), k), [-1])[0]

    return tf.data.Dataset.range(2**62).map(one).batch(CHUNK).take, CHUNK


def measure(stages: Mapping[str, Stage], seconds: float, rounds: int = 5) -> dict[str, list[float]]:
    """Measure images per second of CPU time, each stage once per round, so that all meet the same disturbances.

    Args:
        stages: by their names. As their datasets end, what is computed ahead in the background is neither lost nor
            another measurement's.
        seconds: how long one measurement takes, about.
        rounds: measurements of each stage.

    Returns:
        `rounds` rates of each stage, images/s.

    Raises:
        ValueError: for seconds or rounds that are not positive.
    """
    if seconds <= 0 or rounds < 1:
        raise ValueError(f"seconds: a measurement must take some time, got {seconds} s in {rounds} rounds.")
    elements = {}
    for name, (make, _) in stages.items():
        _cpu_seconds(make(1))  # fills the caches
        elements[name] = max(1, math.ceil(3 * seconds / max(_cpu_seconds(make(3)), 1e-9)))
    rates: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(rounds):
        for name, (make, images) in stages.items():
            rates[name].append(elements[name] * images / max(_cpu_seconds(make(elements[name])), 1e-9))
    return rates


def _cpu_seconds(data: tf.data.Dataset | float) -> float:
    """Read a dataset to its end on one thread; preparing it does not count. What was measured elsewhere is returned."""
    if isinstance(data, float):
        return data
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False  # or buffers grow while the clock runs
    iterator = iter(data.with_options(options))
    start = time.process_time()
    for _ in iterator:
        pass
    return time.process_time() - start


def table(rates: Rates, limit: str, name: str = "input_speed") -> str:
    """Return a Markdown table of medians and ranges; `limit` names the stage that the shares refer to."""
    reference, lines = statistics.median(rates[limit]), []
    for stage, values in rates.items():
        median = statistics.median(values)
        share = f"{100 * median / reference:.0f} %" if median < 4 * reference else ""
        lines.append([stage, f"{median:,.0f}", f"{min(values):,.0f} to {max(values):,.0f}", share])
    return markdown.table([TITLES[name], "median", "range", "share of the decoder"], lines)


def write_report(
    folder: Path, rates: Rates, limit: str, details: Mapping[str, Any], name: str = "input_speed"
) -> list[pathlib.Path]:
    """Write `name`.json, .md and .png into `folder` and return their paths; medians, ranges and every rate.

    Raises:
        ValueError: where matplotlib is not installed.
        OSError: where the folder cannot be written.
    """
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = {**details, "limit": limit, "images_per_second": medians, "rounds": rates}
    return speed_report.write(folder, name, result, table(rates, limit, name), _bars(rates, limit))


def _originals() -> list[np.ndarray]:
    from sklearn.datasets import load_sample_images

    photos = list(load_sample_images().images)
    try:
        import skimage
    except ImportError:
        return photos
    from PIL import Image

    for name in ("astronaut.png", "coffee.png", "rocket.jpg"):  # some of them only where they came with the package
        path = pathlib.Path(skimage.__file__).parent / "data" / name
        if path.is_file():
            photos.append(np.asarray(Image.open(path).convert("RGB")))
    return photos


def _bars(rates: Rates, limit: str) -> "Figure":
    names = list(rates)[::-1]
    medians = [statistics.median(rates[name]) for name in names]
    spread = [[m - min(rates[n]) for n, m in zip(names, medians, strict=True)]]
    spread.append([max(rates[n]) - m for n, m in zip(names, medians, strict=True)])
    figure = new_figure(8, 1.2 + 0.24 * len(names))
    axes = figure.subplots()
    colours = ["#8a8a8a" if name == limit else "#2f6fb0" for name in names]
    axes.barh(names, medians, xerr=spread, color=colours, error_kw={"elinewidth": 1, "ecolor": "#303030"})
    reference = medians[names.index(limit)]
    axes.axvline(reference, color="#8a8a8a", linewidth=1)
    axes.axvline(reference / 2, color="#8a8a8a", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.margins(y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("images/s per core, median and range; lines: the limit and half of it")
    return figure
