"""Draw the paper's Figures 1, 2 (left) and 3, print Table 1, and put what was measured here beside the published.

Without flags: the published figures alone, and Figure 1 of Mixer-B/16. With folders of suite.py, their models beside
them. Figure 2 (right) is an experiment (docs/results/data_size.md), Figure 4 is `visualize`.

    python recipes/figures.py
    python recipes/figures.py --model=s32 --suites=runs/suite,runs/other --format=svg
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import pathlib
from typing import Any

import keras

import keras_mixer
from keras_mixer import files, paper
from keras_mixer.benchmark import markdown
from keras_mixer.cli import entry, suite_tables
from keras_mixer.cli.flags import Settings as BaseSettings
from keras_mixer.cli.flags import setting, settings_class
from keras_mixer.pictures import mixer_drawing, paper_figures
from keras_mixer.pictures.figure import new_figure


@settings_class
class Settings(BaseSettings):
    """Settings of the figures."""

    model: str = setting(
        "b16", f"Variant of Figure 1: {', '.join(paper.MODELS)}.", choices=tuple(paper.MODELS), common=True
    )
    suites: tuple[str, ...] | None = setting(
        None, "Folders of suite.py, whose measured rows are drawn, too.", distinct=True, common=True
    )
    table_1: bool = setting(
        True, "Build all variants and print Table 1 from them; the largest takes 2 GB.", common=True
    )
    format: str = setting("png", "png, svg or pdf.", choices=("png", "svg", "pdf"), common=True)
    output: str = setting("runs/figures", "Folder of the pictures; those of the same names are replaced.", common=True)


def run(settings: Settings) -> list[pathlib.Path]:
    """Write what the settings name; return the paths of the files."""
    new_figure(1, 1)  # says at once where matplotlib is missing
    suites = [suite_tables.measured_points(folder) for folder in settings.suites or ()]
    days, rates = ([point for points in suites for point in points[cost]] for cost in suite_tables.COSTS)
    folder, written = files.open_folder(settings.output), []

    # ---- Figure 1 ----
    drawing = folder / f"figure_1_{settings.model}.{settings.format}"
    mixer_drawing.write_drawing(drawing, name_of(settings.model), shapes_of(build(settings.model)))
    written.append(drawing)

    # ---- Figures 2 (left) and 3 ----
    of_figure_3 = lambda points: [p for p in points if paper_figures.is_on_jft(p) and p["image_size"] == 224]
    table_3 = [of_figure_3(paper_figures.points_of_table_3(cost)) for cost in suite_tables.COSTS]
    title, both = "Figure 3, {}: JFT-300M, 224 px", [paper_figures.points_of_both(cost) for cost in suite_tables.COSTS]
    pictures = (
        (
            "figure_2_left",
            "Figure 2, left: accuracy against cost",
            paper_figures.points_of_figure_2(),
            days,
            "core_days",
        ),
        ("figure_3_left", title.format("left"), table_3[0], of_figure_3(days), "core_days"),
        ("figure_3_right", title.format("right"), table_3[1], of_figure_3(rates), "throughput"),
        ("all_cost", "Tables 2 and 3: accuracy against training cost", both[0], days, "core_days"),
        ("all_throughput", "Tables 2 and 3: accuracy against throughput", both[1], rates, "throughput"),
    )
    for name, title, published, here, kind in pictures:
        cost = paper_figures.RATE if kind == "throughput" else paper_figures.CORE_DAYS
        if kind == "throughput" and here:
            cost += "; those measured here: of this machine"
        path = folder / f"{name}.{settings.format}"
        paper_figures.write_costs(path, title, published, here, cost, frontier=name == "figure_2_left")
        written.append(path)

    # ---- Table 1 ----
    if settings.table_1:
        text = table_1()
        files.write_text(folder / "table_1.md", text)
        written.append(folder / "table_1.md")
        print(text)
    for path in written:
        print(path)
    return written


def name_of(model: str) -> str:
    return paper.title_of(model) if model in paper.VARIANTS else "The tiny Mixer"


def build(model: str) -> keras.Model:
    """Return a new model of a variant at its usual size."""
    side = paper.usual_size(model)
    return keras_mixer.MLPMixer(**paper.MODELS[model], input_shape=(side, side, 3))


def shapes_of(model: keras.Model) -> dict[str, int]:
    """Return the shapes that `mixer_drawing.write_drawing` takes, read off the layers of a model."""
    stem, block = model.get_layer("stem"), model.get_layer("block_0")
    side, image_channels = model.input_shape[1], model.input_shape[3]
    _, tokens, channels = model.get_layer("pre_head_layer_norm").output.shape
    return {
        "image_size": side,
        "image_channels": image_channels,
        "patch_size": stem.patch_size,
        "tokens": tokens,
        "channels": channels,
        "num_blocks": sum(layer.name.startswith("block_") for layer in model.layers),
        "tokens_mlp_dim": block.token_mixing.dense_0.kernel.shape[1],
        "channels_mlp_dim": block.channel_mixing.dense_0.kernel.shape[1],
        "classes": model.get_layer("head").units,
    }


def table_1() -> str:
    """Return Table 1 in Markdown, read off a model of each variant; parameters are in millions, without the head."""
    columns: dict[str, list[Any]] = {}
    for variant in paper.VARIANTS:
        print(f"Table 1: building {name_of(variant)}", flush=True)
        model = build(variant)
        n, head = shapes_of(model), model.get_layer("head").count_params()
        keys = ("num_blocks", "patch_size", "channels", "tokens", "channels_mlp_dim", "tokens_mlp_dim")
        parameters = f"{(model.count_params() - head) / 1e6:.1f}"
        columns[variant] = [*(n[key] for key in keys), parameters, paper.PARAMETERS.get(variant, "")]
        del model
        keras.backend.clear_session()
    heads = ["layers N", "patch P", "hidden C", "tokens S", "D_C", "D_S", "parameters, millions", "the same, published"]
    return markdown.table(["", *map(name_of, columns)], list(zip(heads, *columns.values(), strict=True)))


if __name__ == "__main__":
    entry.run(Settings, run)
