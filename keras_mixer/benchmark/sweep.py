"""The part of benchmark.py that measures images/s over batch sizes, beside other implementations."""

import contextlib
import statistics
from typing import Any

from absl import flags

from keras_mixer import files
from keras_mixer.benchmark import measuring as shared
from keras_mixer.benchmark import speed_report, throughput

FLAGS: Any = flags.FLAGS


def main() -> None:
    """Images/s over the batch sizes, ours and those of --compare in turn."""
    options = shared.check_flags("s32")
    modes = ["inference", "training"] if FLAGS.mode == "both" else [FLAGS.mode]
    model = FLAGS.model or "s32"
    files.open_folder(FLAGS.output)
    result = shared.new_result("speed", model)
    groups = [(mode, size) for mode in modes for size in options["batch_sizes"]]
    paths, failed = [], []
    with contextlib.ExitStack() as stack:
        peaks = {dtype: stack.enter_context(shared.start_peak(dtype)) for dtype in shared.dtypes_of_run()}
        for k, (mode, size) in enumerate(groups):
            shared.progress(f"[{k + 1}/{len(groups)}] {mode}, batch {size}")
            rows, peak_rates = measure_group(model, mode, size, options["compile"], peaks)
            result["rows"] += rows
            failed += [row["error"] for row in rows if "error" in row]
            for dtype, rates in peak_rates.items():
                result["matmul_gflops"][dtype] += rates
            shared.name_device(result)
            text = sweep_text(result)
            figure = None
            if any("error" not in row for row in result["rows"]):
                figure = speed_report.speed_figure(result["rows"], result["title"])
            paths = speed_report.write(FLAGS.output, "speed", result, text, figure)  # what there is so far
    shared.finish(text, paths, failed)


def sweep_text(result: dict[str, Any]) -> str:
    ratios = speed_report.ratio_table(result["rows"], result["model"], result["image_size"])
    parts = [result["title"], speed_report.table(result["rows"]), ratios]
    parts.append(speed_report.peak_line(result["matmul_gflops"]))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def measure_group(model: str, mode: str, size: Any, compile_with: str, peaks: Any) -> Any:
    """Measure the configurations of one mode and batch size and the matrix products, in turn; return rows and rates."""
    common = {"model": model, "mode": mode, "batch_size": size, "image_size": FLAGS.image_size}
    specs = [(f"keras_mixer {way}", dict(kind="keras_mixer", compile=way)) for way in compile_with]
    for name in FLAGS.compare:
        if name == "keras_vit":
            specs += [(f"keras_vit {way}", dict(kind="keras_vit", compile=way)) for way in compile_with]
        else:
            specs.append((name, dict(kind="peer", name=name)))
    rows, children, sizes = {}, [], None
    with contextlib.ExitStack() as stack:
        for name, spec in specs:
            try:
                if spec["kind"] == "peer":
                    if sizes is None:
                        raise throughput.ChildFailed(f"{name}: not measured, since ours failed.")
                    spec = {**spec, "sizes": sizes["sizes"]}
                    child = shared.start(name, {**common, **spec, "image_size": sizes["image_size"]}, FLAGS.peer_python)
                else:
                    child = shared.start(name, {**common, **spec})
                    sizes = child.facts if spec["kind"] == "keras_mixer" else sizes
                children.append(stack.enter_context(child))
            except throughput.ChildFailed as error:
                rows[name] = failed_row(name, mode, size, error)
        everything = [*peaks.values(), *children]
        answers = throughput.interleave(everything, FLAGS.rounds, FLAGS.seconds)
    peak_rates = {}
    for dtype, child, given in zip(peaks, everything, answers, strict=False):
        if isinstance(given, throughput.ChildFailed):
            raise OSError(f"matmul_size: {given}")
        peak_rates[dtype] = [child.facts["gflop_per_image"] / answer["seconds_per_call"] for answer in given]
    for child, given in zip(children, answers[len(peaks) :], strict=True):
        if isinstance(given, throughput.ChildFailed):
            rows[child.name] = failed_row(child.name, mode, size, given)
            continue
        precision = child.facts["precision"]
        peak = statistics.median(peak_rates[shared.DTYPES.get(precision, precision)])
        rows[child.name] = throughput.row(child, given, mode, size, peak)
        shared.progress(f"    {child.name}: {rows[child.name]['images_per_second']:,.4g} images/s")
    return [rows[name] for name, _ in specs], peak_rates


def failed_row(name: str, mode: str, size: Any, error: Any) -> dict[str, Any]:
    shared.progress(f"    {error}")
    return {"name": name, "mode": mode, "batch_size": size, "error": str(error)}
