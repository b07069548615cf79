"""The texts of an exported page: what is copied, and what is filled in."""

import hashlib
import html
import json
import pathlib
from typing import Any

from keras_mixer._version import __version__
from keras_mixer.export.web_runtime import CDN, FOLDER, SCRIPT, VERSION, WASM

ASSETS = pathlib.Path(__file__).parents[1] / "assets"
SCRIPTS = ("check.js", "load.js", "jpeg.js", "jpeg_pixels.js", "exif.js", "picture.js", "page.js")
PLAIN = ("page.css", *SCRIPTS)  # copied as they are
FILES = {
    "index.html": f"the page, with `page.css` and {len(SCRIPTS)} scripts",
    "model.onnx": "the model, with its preprocessing inside",
    "classes.json": "the names of the classes, in the order of the probabilities",
    "settings.json": "what the page needs to know of both, and how the model was checked",
    "sw.js": "keeps the page in the browser, so that it opens without a network",
}


def write_texts(page: pathlib.Path, settings: dict[str, Any], names: tuple[str, ...], wordnet: bool) -> None:
    """Write all files but the model and the runtime; `settings` are those of the page, and get its version."""
    beside = settings["runtime"]["base"] != CDN
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4:,} more" if len(names) > 4 else "")
    height, width = settings["image_size"]
    texts = {
        "CDN": "" if beside else f" {CDN}",
        "LEAD": f"This page names it, as one of {len(names):,} classes: {html.escape(shown)}.",
        "ABOUT": f"An MLP-Mixer for images of {width} x {height} pixels, with weights in {settings['precision']}. "
        "It names one of its classes whatever the picture shows. "
        f"Made by keras_mixer {__version__}, it runs in onnxruntime-web {VERSION}.",
    }
    written = {name: (ASSETS / "web" / name).read_text("utf-8") for name in PLAIN}
    written["index.html"] = _filled("index.html", texts)
    written["classes.json"] = json.dumps(names, ensure_ascii=False, indent=0) + "\n"
    if beside:
        written[f"{FOLDER}/LICENSE.txt"] = (ASSETS / "web" / "runtime_licence.txt").read_text("utf-8")
    if wordnet:
        written["WORDNET_NOTICE.txt"] = (ASSETS / "WORDNET_NOTICE.txt").read_text("utf-8")
    digest = hashlib.sha256((page / "model.onnx").read_bytes())
    for text in written.values():
        digest.update(text.encode())
    settings["version"] = digest.hexdigest()[:16]
    written["settings.json"] = json.dumps(settings, indent=2) + "\n"
    kept = ["index.html", "settings.json", "classes.json", *PLAIN]
    written["sw.js"] = _filled("sw.js", {"VERSION": settings["version"], "FILES": ", ".join(map(json.dumps, kept))})
    written["README.md"] = _readme(settings, names, wordnet)
    for name, text in written.items():
        (page / name).write_text(text, "utf-8")


def _readme(settings: dict[str, Any], names: tuple[str, ...], wordnet: bool) -> str:
    beside = settings["runtime"]["base"] != CDN
    model, runtime = settings["model"]["bytes"], SCRIPT.bytes + WASM.bytes
    listed = FILES | ({f"{FOLDER}/": "the runtime"} if beside else {})
    return _filled(
        "README.md",
        {
            "COUNT": f"{len(names):,}",
            "FILES": "\n".join(f"- `{name}`: {what}." for name, what in listed.items()),
            "DOWNLOAD": f"{(model + runtime) / 1e6:.1f} MB, of which the runtime is {runtime / 1e6:.1f} MB,",
            "SIZE": " x ".join(map(str, reversed(settings["image_size"]))),
            "PRECISION": settings["precision"],
            "DIFFERENCE": f"{settings['largest_difference']:.1e}",
            "PACKAGE": __version__,
            "RUNTIME": VERSION,
            "WHERE": f"in `{FOLDER}/`" if beside else f"fetched from {CDN} with the hashes of its files",
            "WORDNET": "\n- The names of the classes are WordNet's: `WORDNET_NOTICE.txt`." if wordnet else "",
        },
    )


def _filled(name: str, texts: dict[str, str]) -> str:
    """Return an asset of the page with a text in the place of each @NAME@."""
    content = (ASSETS / "web" / name).read_text("utf-8")
    for key, text in texts.items():
        content = content.replace(f"@{key}@", text)
    return content
