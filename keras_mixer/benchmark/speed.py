"""The part of benchmark.py that measures images/s over batch sizes, beside other implementations."""

import contextlib
import statistics
from typing import Any

from keras_mixer import files
from keras_mixer.benchmark import measuring, speed_report, throughput
from keras_mixer.benchmark.settings import Settings


def run(settings: Settings) -> None:
    """Images/s over the batch sizes, ours and those of --compare in turn."""
    ways = measuring.check(settings, "s32")
    modes = [settings.mode] if settings.mode in ("inference", "training") else ["inference", "training"]
    model = settings.model or "s32"
    files.open_folder(settings.output)
    result = measuring.new_result(settings, "speed", model)
    groups = [(mode, size) for mode in modes for size in sorted(settings.batch_sizes)]
    paths, failed = [], []
    with contextlib.ExitStack() as stack:
        peaks = {
            dtype: stack.enter_context(measuring.start_peak(settings, dtype))
            for dtype in measuring.dtypes_of_run(settings)
        }
        for k, (mode, size) in enumerate(groups):
            measuring.progress(f"[{k + 1}/{len(groups)}] {mode}, batch {size}")
            rows, peak_rates = measure_group(settings, model, mode, size, ways, peaks)
            result["rows"] += rows
            failed += [row["error"] for row in rows if "error" in row]
            for dtype, rates in peak_rates.items():
                result["matmul_gflops"][dtype] += rates
            measuring.name_device(result)
            text = sweep_text(result)
            figure = None
            if any("error" not in row for row in result["rows"]):
                figure = speed_report.speed_figure(result["rows"], result["title"])
            paths = speed_report.write(settings.output, "speed", result, text, figure)  # what there is so far
    measuring.finish(text, paths, failed)


def sweep_text(result: dict[str, Any]) -> str:
    ratios = speed_report.ratio_table(result["rows"], result["model"], result["image_size"])
    wide = speed_report.wide_tables(result["rows"], result["model"])
    parts = [result["title"], speed_report.table(result["rows"]), wide, ratios]
    parts.append(speed_report.peak_line(result["matmul_gflops"]))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def measure_group(settings: Settings, model: str, mode: str, size: Any, compile_with: list[str], peaks: Any) -> Any:
    """Measure the configurations of one mode and batch size and the matrix products, in turn; return rows and rates."""
    common = {"model": model, "mode": mode, "batch_size": size, "image_size": settings.image_size}
    specs = [(f"keras_mixer {way}", dict(kind="keras_mixer", compile=way)) for way in compile_with]
    for name in settings.compare:
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
                    child = measuring.start(
                        settings, name, {**common, **spec, "image_size": sizes["image_size"]}, settings.peer_python
                    )
                else:
                    child = measuring.start(settings, name, {**common, **spec})
                    sizes = child.facts if spec["kind"] == "keras_mixer" else sizes
                children.append(stack.enter_context(child))
            except throughput.ChildFailed as error:
                rows[name] = failed_row(name, mode, size, error)
        everything = [*peaks.values(), *children]
        answers = throughput.interleave(everything, settings.rounds, settings.seconds)
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
        peak = statistics.median(peak_rates[measuring.DTYPES.get(precision, precision)])
        rows[child.name] = throughput.row(child, given, mode, size, peak)
        measuring.progress(f"    {child.name}: {rows[child.name]['images_per_second']:,.4g} images/s")
    return [rows[name] for name, _ in specs], peak_rates


def failed_row(name: str, mode: str, size: Any, error: Any) -> dict[str, Any]:
    measuring.progress(f"    {error}")
    return {"name": name, "mode": mode, "batch_size": size, "error": str(error)}
