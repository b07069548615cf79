"""examples/serving_client.py against a server with TensorFlow Serving's own messages on 127.0.0.1."""

import base64
import contextlib
import http.client
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import grpc
import loopback_serving
import numpy as np
import pytest
import served
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, prediction_log_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from keras_mixer.data import crops, decode_plain

ROOT = pathlib.Path(__file__).parent.parent.parent
CLIENT = ROOT / "examples" / "serving_client.py"
PHOTO = np.random.default_rng(2).integers(0, 256, (40, 51, 3), np.uint8)
TOLERANCE = 1e-6  # measured: 0 on a CPU


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return served.exported(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return loopback_serving.Server(served.exported(tmp_path_factory)[1])


@pytest.fixture(scope="module")
def ports(server):
    with server.by_grpc() as of_grpc, server.by_rest() as of_rest:
        yield {"grpc": of_grpc, "rest": of_rest}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of several sizes and formats, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    files = {
        "wide.png": tf.io.encode_png(PHOTO).numpy(),
        "garbage.jpg": b"no image",
        "tall.jpg": tf.io.encode_jpeg(PHOTO[:, :20], quality=100).numpy(),
        "small.png": tf.io.encode_png(PHOTO[:16, :16]).numpy(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def expected(model):
    """By Keras, for each of `pictures` that is one: [(class, score), ...], best first."""
    tall = tf.io.decode_jpeg(tf.io.encode_jpeg(PHOTO[:, :20], quality=100)).numpy()
    images = {"wide.png": PHOTO, "tall.jpg": tall, "small.png": PHOTO[:16, :16]}
    pixels = np.stack([crops.evaluation_crop(image, "resmall", served.SIDE) for image in images.values()])
    return {name: best_of(row) for name, row in zip(images, served.by_keras(model, pixels), strict=True)}


def best_of(row):
    return [(served.NAMES[k], row[k]) for k in np.argsort(-row)[:5]]


def client(*arguments, cwd=None):
    """Run the client, with warnings as errors, and return (exit code, standard output, standard error).

    By REST it gets no installed packages: the standard library is enough for it.
    """
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    bare = ["-I", "-S"] if "--rest" in arguments else []
    command = [sys.executable, *bare, "-W", "error", str(CLIENT), *map(str, arguments)]
    process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)
    return process.returncode, process.stdout, process.stderr


@pytest.fixture(scope="module")
def inside():
    """The client's `main`, in this process: importing TensorFlow for each case would take seconds."""
    spec = importlib.util.spec_from_file_location("serving_client", CLIENT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def check_table(output, expected):
    """Each line is that of a picture, with the classes of Keras and its scores to the digits that are written."""
    lines = {line.split()[0]: line.split()[1:] for line in output.splitlines()}
    for name, best in expected.items():
        found = lines.pop(name)
        assert found[::2] == [each for each, _ in best]
        np.testing.assert_allclose(np.float64(found[1::2]), [score for _, score in best], rtol=0, atol=5.1e-5)
    return lines


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_images_of_several_sizes_in_one_request_and_one_that_is_none(protocol, ports, server, pictures, expected):
    flags = ["--rest"] if protocol == "rest" else []
    names = sorted(path.name for path in pictures.iterdir())
    code, output, errors = client(*flags, f"--port={ports[protocol]}", *names, cwd=pictures)
    assert errors == ""
    assert check_table(output, expected) == {"garbage.jpg": decode_plain.NOT_TAKEN.split()}
    assert [line.split()[0] for line in output.splitlines()] == names
    assert code == 1  # for the one that is none
    assert server.requests[-1] == ("serving_bytes", (4,))


def test_a_row_is_its_only_input_or_names_it(ports, pictures):
    """The second is what `curl` sends in docs/guides/serving.md and model_card.md."""
    value, answers = {"b64": base64.b64encode((pictures / "wide.png").read_bytes()).decode()}, []
    for row in ({"images": value}, value):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", ports["rest"], timeout=10)) as connection:
            body = json.dumps({"signature_name": "serving_bytes", "instances": [row]})
            connection.request("POST", "/v1/models/mixer/versions/3:predict", body)
            answers.append(json.loads(connection.getresponse().read())["predictions"])
    assert answers[0] == answers[1]
    assert answers[0][0]["status"] == "ok"


def test_uint8_pixels_of_images_that_have_the_side(ports, server, model, pictures, inside, capsys, monkeypatch):
    monkeypatch.chdir(pictures)
    assert inside([f"--port={ports['grpc']}", "--signature=serving_default", "small.png"]) == 0
    check_table(capsys.readouterr().out, {"small.png": best_of(served.by_keras(model, PHOTO[None, :16, :16])[0])})
    assert server.requests[-1] == ("serving_default", (1, 16, 16, 3))


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_health(protocol, ports, server, inside, capsys, monkeypatch):
    flags = [f"--port={ports[protocol]}", "--health"] + (["--rest"] if protocol == "rest" else [])
    assert inside(flags) == 0
    assert capsys.readouterr().out == "mixer version 3: AVAILABLE\n"
    monkeypatch.setattr(server, "state", get_model_status_pb2.ModelVersionStatus.LOADING)
    assert inside(flags) == 1
    assert capsys.readouterr().out == "mixer version 3: LOADING\n"
    assert inside([*flags, "--model=other"]) == 2
    assert "does not serve model 'other' (Could not find any versions of model other)" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--model=other"],
            "does not serve model 'other' (Servable not found for request: Latest(other)); check --model",
        ),
        (["--label=canary"], "refuses the request: Unrecognized servable version label: canary ("),
        (["--port=1"], "no server is ready at 127.0.0.1:1 ("),
        (["--port=1", "--health"], "Connection refused"),
    ],
)
def test_what_has_no_answer_ends_in_one_sentence(protocol, flags, message, ports, pictures, inside, capsys):
    files = [] if "--health" in flags else [str(pictures / "small.png")]
    rest = ["--rest"] if protocol == "rest" else []
    assert inside([f"--port={ports[protocol]}", *rest, *flags, *files]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_an_answer_that_comes_too_late(protocol, ports, server, pictures, inside, capsys):
    server.answer_now.clear()
    try:
        rest = ["--rest"] if protocol == "rest" else []
        assert inside([f"--port={ports[protocol]}", *rest, "--timeout=0.3", str(pictures / "small.png")]) == 2
    finally:
        server.answer_now.set()
    assert f"127.0.0.1:{ports[protocol]} gave no answer within 0.3 s" in capsys.readouterr().err


def test_a_wrong_side_is_refused_by_the_model_in_its_words(ports, pictures, inside, capsys):
    flags = [f"--port={ports['grpc']}", "--signature=serving_default"]
    assert inside([*flags, str(pictures / "wide.png")]) == 2
    assert "images: must be uint8 of shape (B, 16, 16, 3); the shape of yours is" in capsys.readouterr().err
    for bad in ("wide.png", "garbage.jpg"):
        assert inside([*flags, str(pictures / "small.png"), str(pictures / bad)]) == 2
        assert "serving_default takes images of the model's size" in capsys.readouterr().err


def test_rest_at_the_port_of_grpc(ports, pictures):
    code, _, errors = client("--rest", f"--port={ports['grpc']}", pictures / "small.png")
    assert (code, errors) == (2, f"error: 127.0.0.1:{ports['grpc']} does not speak TensorFlow Serving's REST.\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["missing.png"], "error: missing.png cannot be read (No such file or directory)."),
        (["."], "error: . cannot be read (Is a directory)."),
        ([], "give the files of images, or --health"),
        (["--health", "small.png"], "give the files of images, or --health"),
        (["--timeout=0", "small.png"], "--port is up to 65535 and --timeout positive, got 1 and 0"),
        (["--port=99999", "small.png"], "--port is up to 65535 and --timeout positive, got 99999 and 10"),
        (["--signature=serving_default", "small.png"], "only --signature=serving_bytes takes"),
    ],
)
def test_bad_input(flags, message, pictures):
    code, output, errors = client("--rest", "--port=1", *flags, cwd=pictures)
    assert (code, output) == (2, "")
    assert message in errors


def test_grpc_without_its_packages_names_what_to_install(pictures):
    command = [sys.executable, "-I", "-S", str(CLIENT), "small.png"]
    process = subprocess.run(command, cwd=pictures, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr == "error: gRPC needs grpc: pip install 'keras_mixer[serving]', or give --rest.\n"


def test_the_warm_up_file_through_grpc(ports, server):
    server.requests.clear()
    with grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for record in tf.data.TFRecordDataset(str(server.folder / "assets.extra" / "tf_serving_warmup_requests")):
            request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
            request.model_spec.name = "mixer"  # TensorFlow Serving runs them on the version that it loads
            outputs = stub.Predict(request, timeout=10).outputs
            assert np.isfinite(tf.make_ndarray(outputs["probabilities"])).all()
            assert "status" not in outputs or set(tf.make_ndarray(outputs["status"])) == {b"ok"}
    sizes = {"serving_default": (16, 16, 3), "serving_float": (16, 16, 3), "serving_bytes": ()}
    assert sorted(server.requests) == sorted((name, (n, *size)) for name, size in sizes.items() for n in (1, 8))


def test_rows_that_fill_up_a_batch_change_no_answer(server):
    """As --enable_batching does: requests are put together and padded with the last one's first row."""
    files = [tf.io.encode_png(PHOTO).numpy(), b"no image", tf.io.encode_png(PHOTO[:16]).numpy()]
    run = lambda files: server.model.signatures["serving_bytes"](images=tf.constant(files))
    alone, together = [run([file]) for file in files], run([*files, *[files[-1]] * 5])
    for i, answer in enumerate(alone):
        difference = np.abs(answer["probabilities"][0] - together["probabilities"][i]).max()
        assert difference <= TOLERANCE
        for name in ("classes", "status"):
            np.testing.assert_array_equal(answer[name][0], together[name][i])


def test_the_versions_and_labels_of_the_documentation_are_the_servers_message():
    block = (
        (ROOT / "docs" / "guides" / "serving.md")
        .read_text("utf-8")
        .split("<!-- test: models.config -->\n```text\n")[1]
        .split("```")[0]
    )
    config = text_format.Parse(block, model_server_config_pb2.ModelServerConfig()).model_config_list.config[0]
    assert (config.name, config.base_path, config.model_platform) == ("mixer", "/models/mixer", "tensorflow")
    assert dict(config.version_labels) == {"stable": 1, "canary": 2}
    assert list(config.model_version_policy.specific.versions) == [1, 2]
