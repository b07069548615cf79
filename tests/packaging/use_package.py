"""Use the installed package, and what one extra of it is for; `try_release.py` runs this in each new environment.

python use_package.py EXTRA SOURCES     EXTRA "" for none; SOURCES is an unpacked source distribution
"""

import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "jax" if "backends" in sys.argv else "tensorflow"

import keras
import numpy as np

import keras_mixer

EXTRA, SOURCES = sys.argv[1], pathlib.Path(sys.argv[2])
PROGRAMS = pathlib.Path(sys.executable).parent
with np.load(SOURCES / "tests" / "golden" / "flax_mixer_tiny.npz") as archive:
    GOLDEN = {name: archive[name] for name in archive.files}
ARRAYS = {name.removeprefix("checkpoint/"): a for name, a in GOLDEN.items() if name.startswith("checkpoint/")}
LIMIT = 1e-5  # from the authors' logits and probabilities


def mixer(weights: object) -> keras.Model:
    """Return the golden model with these weights, for logits."""
    sizes = dict(patch_size=8, num_blocks=3, hidden_dim=48, tokens_mlp_dim=20, channels_mlp_dim=96)
    return keras_mixer.MLPMixer(**sizes, input_shape=(32, 32, 3), weights=weights, classifier_activation=None)


def check(found: np.ndarray, probabilities: bool = False) -> str:
    """Compare what a model says of the golden images with what the authors' model says."""
    expected = GOLDEN["out/logits"].astype("float64")
    if probabilities:
        expected = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    difference = np.abs(np.asarray(found) - expected).max()
    assert difference < LIMIT, difference
    return f"within {difference:.0e} of the authors"


def logits(model: keras.Model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(keras_mixer.preprocess_input(GOLDEN["images"])))


def run(*command: object, code: int = 0) -> str:
    """Return what a command writes; it must end with this exit code."""
    words = [str(word) for word in command]
    process = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert process.returncode == code, process.stdout
    return process.stdout


def plain() -> str:
    assert not pathlib.Path(keras_mixer.__file__).is_relative_to(SOURCES), keras_mixer.__file__
    assert len(keras_mixer.list_weights()) == 11
    model = mixer(ARRAYS)
    keras_mixer.save_checkpoint(model, "mixer.npz")
    told = check(logits(mixer("mixer.npz")))
    listed = run(PROGRAMS / "keras-mixer").splitlines()
    assert sum(line.startswith("  ") for line in listed) >= 10, listed
    return f"{told}; {len(listed) - 1} commands"


def pretrain() -> str:
    """Train for a few steps as a user would; the trials of extras, which are to be quick, leave it out."""
    run(PROGRAMS / "keras-mixer", "pretrain", "--total_steps=5", "--batch_size=32", "--workdir=run")
    result = keras_mixer.load_run("run").result
    return f"5 steps of pre-training: {result['num_examples']} images evaluated"


def heic() -> str:
    import pillow_heif

    from keras_mixer.data import decode

    pixels = np.full((16, 16, 3), (200, 100, 50), "uint8")
    pillow_heif.register_heif_opener()
    pillow_heif.from_bytes("RGB", (16, 16), pixels.tobytes()).save("photo.heic", quality=-1)
    decoded = decode.decode_image(pathlib.Path("photo.heic").read_bytes())
    difference = np.abs(np.asarray(decoded).astype(int) - pixels).max()
    assert difference <= 3, difference
    return f"a HEIC picture of {decoded.shape[:2]} pixels"


def safetensors() -> str:
    from safetensors.numpy import save_file

    save_file(ARRAYS, "mixer.safetensors")
    return check(logits(mixer("mixer.safetensors")))


def hub() -> str:
    os.environ["HF_HUB_OFFLINE"] = "1"  # the client is there, and says in our words that the hub cannot be reached
    try:
        mixer("hf://owner/name/model.safetensors")
    except ConnectionError as error:
        return str(error)
    raise AssertionError("weights came from nowhere")


def serving() -> str:
    client = SOURCES / "examples" / "serving_client.py"
    told = run(sys.executable, client, "--health", "--port=1", "--timeout=2", code=2)
    assert "no server is ready" in told, told
    return told.strip()


def litert() -> str:
    return keras_mixer.export.litert(mixer(ARRAYS), "mixer.tflite").name  # compares what the file answers


def onnx() -> str:
    import onnxruntime

    session = onnxruntime.InferenceSession(keras_mixer.export.onnx(mixer(ARRAYS), "mixer.onnx"))
    return check(session.run(None, {"images": GOLDEN["images"].astype("float32")})[0], probabilities=True)


def openvino() -> str:
    import openvino

    folder = keras_mixer.export.saved_model(mixer(ARRAYS), "served", class_names=[f"class {i}" for i in range(10)])
    model = openvino.convert_model(folder, output=["probabilities"])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return check(compiled(GOLDEN["images"])[0], probabilities=True)


def beam() -> str:
    from PIL import Image

    for name in ("blue", "red"):
        pathlib.Path("photos", name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (32, 32), name).save(f"photos/{name}/{i}.png")
    told = run(
        PROGRAMS / "keras-mixer", "make_records", "--dataset=photos", "--output=records", "--runner=DirectRunner"
    )
    return told.strip().splitlines()[-1]


def backends() -> str:
    assert keras.backend.backend() == "jax"
    return check(logits(mixer(ARRAYS)))


def docs() -> str:
    run(sys.executable, "-c", "import material, mkdocstrings_handlers.python")
    return run(PROGRAMS / "mkdocs", "--version")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as outside:
        os.chdir(outside)
        print(globals()[EXTRA or "plain"]())
