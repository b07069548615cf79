"""The part of benchmark.py that measures time and memory against pixels, batch, depth and width."""

import contextlib
import statistics
import sys
from typing import Any

from keras_mixer import cost_model, files
from keras_mixer.benchmark import measuring, speed_report, throughput
from keras_mixer.benchmark.settings import SIDES, Settings

DEPTH_FACTORS, WIDTH_FACTORS = (0.25, 0.5, 1, 2), (0.25, 0.5, 1, 2)


def run(settings: Settings) -> None:
    """Time and memory of inference against pixels, batch, depth and width, one at a time."""
    others = [name for name in settings.compare if name.split("_")[0] not in ("vit", "keras")]
    if others:
        raise ValueError(f"compare: --scaling draws a ViT beside the Mixer, got {others[0]!r}; use vit or keras_vit.")
    ways = measuring.check(settings, "s16")
    sides = sorted(settings.sides or SIDES)
    if settings.sides:
        measuring.check_sides("sides", sides, settings.model or "s16")
    for name, value in {"mode": settings.mode, "compile": settings.compile}.items():
        if value == "both":
            raise ValueError(f"{name}: --scaling measures one at a time, got 'both'; run it once for each.")
    files.open_folder(settings.output)
    model = settings.model or "s16"
    mode = "training" if settings.mode == "training" else "inference"
    result = measuring.new_result(settings, "scaling", model) | {"mode": mode}
    points: dict[str, Any] = {
        # The usual sides fit no patch size alone; sides that were given are taken as they are, or refused.
        "pixels": [dict(image_size=side, whole_patches=not settings.sides) for side in sides],
        "batch": [dict(batch_size=size) for size in sorted(settings.batch_sizes)],
        "depth": [dict(depth_factor=factor) for factor in DEPTH_FACTORS],
        "width": [dict(width_factor=factor) for factor in WIDTH_FACTORS],
    }
    todo = [(axis, point) for axis in settings.axes for point in points[axis]]
    failed, paths = [], []
    for k, (axis, point) in enumerate(todo):
        measuring.progress(f"[{k + 1}/{len(todo)}] {axis}: {next(iter(point.values()))}")
        rows = scaling_point(settings, mode, axis, point, ways[0])
        result["rows"] += rows
        failed += [row["error"] for row in rows if "error" in row]
        measuring.name_device(result)
        text = f"{result['title']}\n\n{speed_report.scaling_table(result['rows'])}"
        figure = None
        if any("error" not in row for row in result["rows"]):
            figure = speed_report.scaling_figure(result["rows"], result["title"])
        result["slopes"] = [
            {"axis": axis, "name": name, **values}
            for (axis, name), values in speed_report.slopes(result["rows"]).items()
        ]
        paths = speed_report.write(settings.output, "scaling", result, text, figure)
    measuring.finish(text, paths, failed)


def scaling_point(settings: Settings, mode: str, axis: str, point: Any, way: str) -> Any:
    """Measure ours and the ViTs at one point; the others follow on the pixels and the batch axes only."""
    rows, children = [], []
    model = settings.model or "s16"
    spec: dict[str, Any] = dict(
        kind="keras_mixer", model=model, mode=mode, batch_size=1, image_size=settings.image_size, compile=way
    )
    spec |= point
    with contextlib.ExitStack() as stack:
        try:
            ours = stack.enter_context(measuring.start(settings, "keras_mixer", spec))
            children.append(ours)
            for name in settings.compare if axis in ("pixels", "batch") else ():
                if name == "keras_vit":
                    more, python = dict(kind="keras_vit"), sys.executable
                else:
                    more = dict(kind="peer", name=name, sizes=ours.facts["sizes"])
                    python = settings.peer_python
                more["image_size"] = ours.facts["image_size"]
                children.append(stack.enter_context(measuring.start(settings, name, spec | more, python)))
        except throughput.ChildFailed as error:
            rows.append({"axis": axis, "label": str(next(iter(point.values()))), "name": "", "error": str(error)})
        given = throughput.interleave(children, settings.rounds, settings.seconds)
    for child, answers in zip(children, given, strict=True):
        sizes, side = children[0].facts["sizes"], children[0].facts["image_size"]
        values = {"pixels": side**2, "batch": spec["batch_size"], "depth": sizes["num_blocks"]}
        value = values.get(axis, sizes["hidden_dim"])
        one = {"axis": axis, "value": value, "label": f"{side}²" if axis == "pixels" else str(value)}
        one["name"] = child.name
        if isinstance(answers, throughput.ChildFailed):
            rows.append(one | {"error": str(answers)})
            continue
        seconds = statistics.median(answer["seconds_per_call"] for answer in answers)
        gflop = child.facts["gflop_per_image"] * (cost_model.TRAINING_FACTOR if mode == "training" else 1)
        one |= {"ms_per_image": 1e3 * seconds / spec["batch_size"], "ms_per_batch": 1e3 * seconds}
        one |= {"gflop_per_image": gflop, "gflop_per_batch": gflop * spec["batch_size"]}
        one |= {"working_mib": answers[-1]["peak_mib"] - child.facts["built_mib"], "facts": child.facts}
        rows.append(one)
        measuring.progress(f"    {child.name}: {one['ms_per_batch']:,.4g} ms, {one['working_mib']:,.0f} MiB")
    return rows
