"""Export a trained Mixer for serving: a versioned SavedModel for TensorFlow Serving, LiteRT and ONNX files, a web page.

Without flags: the run in runs/pretrain becomes runs/export/1, which TensorFlow Serving mounts as it is.

    python recipes/export.py
    python recipes/export.py --weights=runs/mine --output=served --version=2
    python recipes/export.py --weights=imagenet1k --model=b16 --storage=bfloat16 --output=served
    python recipes/export.py --formats=saved_model,litert,onnx --litert_quantization=int8
    python recipes/export.py --formats=web

The files of a version lie in <output>/<version>/; model.tflite, model.onnx and web/ beside the folders of the versions,
in <output>/, where TensorFlow Serving does not look. docs/guides/exporting.md has the signatures,
docs/guides/web_page.md the page.
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import pathlib
import shlex
from typing import Any

from keras_mixer import buckets, export
from keras_mixer.class_names import imagenet_classes
from keras_mixer.cli import entry, exporting, trained
from keras_mixer.cli.flags import setting, settings_class
from keras_mixer.cli.settings import Checkpoint, View
from keras_mixer.export import model_card, packages, version_folder, web_model, web_runtime
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint

FORMATS: dict[str, Any] = {"saved_model": None, "litert": "model.tflite", "onnx": "model.onnx", "web": "web"}


@settings_class
class Settings(Checkpoint, View):
    """Settings of an export."""

    formats: tuple[str, ...] = setting(
        ("saved_model",),
        f"One or several of {', '.join(FORMATS)}, with commas between them.",
        choices=tuple(FORMATS),
        distinct=True,
        common=True,
    )
    output: str = setting("runs/export", "Folder of the versions, for TensorFlow Serving to watch.", common=True)
    version: int = setting(1, "Number of the version; TensorFlow Serving takes the largest.", common=True)
    top: int = setting(5, "Classes that are named for an image; fewer where the head has fewer.", least=1, common=True)
    storage: str = setting("float32", "float32, or bfloat16 or float16: half the bytes, and rounded weights.")
    jit_compile: bool = setting(False, "Compile the Mixer with XLA, again for each size of a batch.")
    litert_quantization: str = setting(
        "none", "Of model.tflite: none, float16, or int8, which needs calibration.", choices=("none", "float16", "int8")
    )
    calibration_images: str | None = setting(None, "Folder of images to calibrate int8; default those of the run.")
    data_dir: str | None = setting(None, "Where TFDS keeps the dataset of the run, to calibrate int8.")
    web_precision: str = setting(
        "float16",
        "Of the weights in web/: float16, float32, or int8, which is less exact.",
        choices=tuple(web_model.TOLERANCES),
    )
    web_runtime: str | None = setting(
        None, "Folder dist/ of the npm package onnxruntime-web, to lie beside the page; default a public host."
    )
    overwrite: bool = setting(False, "Replace what an earlier export wrote, once the new files are whole.", common=True)


def run(settings: Settings) -> None:
    """Export as the settings say, from Python better by `keras_mixer.export.saved_model` and its like."""
    # ---- Settings ----
    output = check_output(settings)
    start = trained.find(settings)
    if start.num_classes is None:
        raise ValueError(f"weights: {start.name} has no head, so it names no class; give weights that have one.")
    if start.permutation[0] != "none":
        raise ValueError(
            f"weights: {start.name} was trained on images whose pixels are permuted, which nobody sends a server; give "
            "weights of a run with --permutation=none."
        )
    side, crop = start.side(settings.image_size), settings.crop or start.crop()
    pixels = start.pixels(**settings.pixels())
    if "web" in settings.formats:
        web_model.check_pixels(pixels)
    calibration = None
    if "litert" in settings.formats and settings.litert_quantization == "int8":
        given = settings.calibration_images, settings.data_dir
        calibration = exporting.calibration_images(*given, start, side, crop, pixels)

    # ---- Model and files ----
    classes = start.names()
    names = imagenet_classes(classes) if isinstance(classes, str) else classes
    options = dict(classes=start.num_classes, classifier_activation=start.activation, name=model_name(start))
    model = start.build(side, pixels.channels, **options)
    print(f"{start.name}: {model.count_params():,} parameters, {side} px, {start.num_classes:,} classes, crop {crop}")
    print(f"writing and checking {', '.join(settings.formats)} ...")
    try:
        if "saved_model" in settings.formats:
            folder = export.saved_model(
                model,
                output,
                class_names=names,
                version=settings.version,
                crop=crop,
                pixels=pixels,
                top=settings.top,
                storage=settings.storage,
                jit_compile=settings.jit_compile,
                card=exporting.card(start),
                overwrite=settings.overwrite,
            )
            print(exporting.told(folder, "export.json", "reloaded: "))
        output.mkdir(parents=True, exist_ok=True)
        quantization = None if settings.litert_quantization == "none" else settings.litert_quantization
        if "litert" in settings.formats:
            path = export.litert(model, output / FORMATS["litert"], quantization, calibration, settings.overwrite)
            print(f"  {path}  {exporting.size_of(path):,} bytes, {quantization or 'float32'}")
        if "onnx" in settings.formats:
            path = export.onnx(model, output / FORMATS["onnx"], settings.overwrite)
            print(f"  {path}  {exporting.size_of(path):,} bytes")
        if "web" in settings.formats:
            how = settings.web_precision, settings.web_runtime, settings.overwrite
            path = export.web(model, output / FORMATS["web"], names, crop, pixels, *how)
            print(exporting.told(path, "settings.json", f"{settings.web_precision}: "))
    except export.ExportError as error:
        entry.stop(str(error), entry.EXIT_FAILED)
    tell_how_to_use(settings, output if buckets.is_bucket(output) else output.resolve())


def check_output(settings: Settings) -> pathlib.Path:
    """Return --output as a path, or refuse what would not be written in the end."""
    for sentence in filter(None, map(packages.missing, settings.formats)):
        entry.stop(sentence)
    output = version_folder.check_output(settings.output)
    if settings.version < 0:
        raise ValueError(f"version: must be a whole number of at least 0, got {settings.version}.")
    if "saved_model" in settings.formats:
        version_folder.check_version(output, settings.version, settings.overwrite)
    for path in [output / FORMATS[name] for name in settings.formats if FORMATS[name]]:
        if path.exists() and not settings.overwrite:
            raise FileExistsError(f"output: {path} exists; choose another --output, or --overwrite to replace it.")
    if "web" in settings.formats:
        version_folder.check_page(output / FORMATS["web"], settings.overwrite)
        web_runtime.check_runtime(settings.web_runtime, "web_runtime")
    return output


def tell_how_to_use(settings: Settings, output: pathlib.Path) -> None:
    """Print the commands that serve what was written."""
    if {"litert", "onnx"} & {*settings.formats}:
        print("A single file takes images (B, H, W, channels) float32 in [-1, 1], and gives probabilities (B, K).")
    if "saved_model" in settings.formats:
        print("Serve it, REST on port 8501 and gRPC on 8500; model_card.md in the folder says how to ask:")
        print(f"  {model_card.serving_command(shlex.quote(str(output)))}")
    if "web" in settings.formats:
        print("Try the page, then put the folder on any host of static files; README.md in it says more:")
        folder = shlex.quote(str(output / FORMATS["web"]))
        print(f"  python -m http.server --directory {folder}    # and open http://localhost:8000")


def model_name(start: StartingPoint) -> str | None:
    """Return for example mixer_b16, or None for a Mixer of other sizes than the variants'."""
    grown = {"tokens_mlp_dim": start.sizes["tokens_mlp_dim"]}  # with the image size
    names = [name for name, sizes in MODELS.items() if sizes | grown == start.sizes]
    return f"mixer_{names[0]}" if names else None


if __name__ == "__main__":
    entry.run(Settings, run)
