"""Ask TensorFlow Serving what is in pictures; it serves what recipes/export.py wrote (docs/guides/serving.md).

    python examples/serving_client.py cat.jpg dog.png                  gRPC, port 8500
    python examples/serving_client.py --rest cat.jpg dog.png           REST, port 8501
    python examples/serving_client.py --health

gRPC needs pip install 'keras_mixer[serving]', REST only Python. --signature=serving_default sends pixels instead of
files, of images that have the model's size. Exit code 0; 1 where the model refused some of the pictures, or --health
finds no version that is ready; 2 where there is no answer or bad input, in one sentence.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import sys
import urllib.parse


class NoAnswer(Exception):
    """What keeps the server from answering, in one sentence."""


def no_answer(options, code, details=""):
    """The `NoAnswer` for an error of gRPC."""
    server = f"{options.host}:{options.port}"
    details = details.strip().partition("\n")[0]
    sentences = {
        "UNAVAILABLE": f"no server is ready at {server} ({details}); start it, or check --host and --port.",
        "DEADLINE_EXCEEDED": f"{server} gave no answer within {options.timeout:g} s; allow it more by --timeout.",
        "NOT_FOUND": f"{server} does not serve model {options.model!r} ({details}); check --model and --label.",
    }
    return NoAnswer(sentences.get(code, f"{server} refuses the request: {details} ({code})"))


def by_grpc(options):
    """Return predict(files) -> outputs by name, each a list over the images, and health() -> [(version, state)]."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)  # TensorFlow, which comes with the messages, writes notes on import whatever its log level
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        import grpc
        import numpy as np
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_status_pb2 as status_pb2
        from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        raise NoAnswer(f"gRPC needs {error.name}: pip install 'keras_mixer[serving]', or give --rest.") from None
    finally:
        os.dup2(stderr, 2)
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(f"{options.host}:{options.port}", options=unlimited)

    def call(method, request):
        request.model_spec.name = options.model
        if options.label is not None:
            request.model_spec.version_label = options.label
        try:
            return method(request, timeout=options.timeout)
        except grpc.RpcError as error:
            raise no_answer(options, error.code().name, error.details()) from None

    def predict(files):
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = options.signature
        if options.signature == "serving_default":  # pixels, not files
            try:
                files = np.stack([tf.io.decode_image(file, 3, expand_animations=False).numpy() for file in files])
            except (tf.errors.OpError, ValueError):  # no image; several sizes
                raise NoAnswer("serving_default takes images of the model's size, serving_bytes any files.") from None
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(files))
        answer = call(prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict, request)
        text = lambda array: np.char.decode(array.astype("S"), "utf-8") if array.dtype == object else array
        return {name: text(tf.make_ndarray(tensor)).tolist() for name, tensor in answer.outputs.items()}

    def health():
        method = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        versions = call(method, status_pb2.GetModelStatusRequest()).model_version_status
        return [(each.version, status_pb2.ModelVersionStatus.State.Name(each.state)) for each in versions]

    return predict, health


def by_rest(options):
    """Return the same two functions as `by_grpc`."""
    label = "" if options.label is None else f"/labels/{urllib.parse.quote(options.label)}"
    path = f"/v1/models/{urllib.parse.quote(options.model)}{label}"

    def call(method, path, body=None):
        connection = http.client.HTTPConnection(options.host, options.port, timeout=options.timeout)
        try:
            connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = dict(json.loads(response.read()))
        except TimeoutError:
            raise no_answer(options, "DEADLINE_EXCEEDED") from None
        except (http.client.HTTPException, TypeError, ValueError):  # no HTTP, or no JSON object
            raise NoAnswer(f"{options.host}:{options.port} does not speak TensorFlow Serving's REST.") from None
        except OSError as error:
            raise no_answer(options, "UNAVAILABLE", error.strerror or str(error)) from None
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            codes = {404: "NOT_FOUND", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
            raise no_answer(options, codes.get(response.status, f"HTTP {response.status}"), str(answer.get("error")))
        return answer

    def predict(files):
        instances = [{"images": {"b64": base64.b64encode(file).decode()}} for file in files]
        answer = call("POST", f"{path}:predict", {"signature_name": options.signature, "instances": instances})
        rows = answer.get("predictions") or [{}]  # a dict for each image, if there are several outputs
        return {name: [row[name] for row in rows] for name in rows[0]} if isinstance(rows[0], dict) else {}

    def health():
        return [(each["version"], each["state"]) for each in call("GET", path).get("model_version_status", [])]

    return predict, health


def run(options):
    predict, health = (by_rest if options.rest else by_grpc)(options)
    if options.health:
        states = health()
        print("\n".join(f"{options.model} version {version}: {state}" for version, state in states))
        return 0 if "AVAILABLE" in dict(states).values() else 1
    try:
        files = [pathlib.Path(path).read_bytes() for path in options.images]
    except OSError as error:
        raise NoAnswer(f"{error.filename} cannot be read ({error.strerror}).") from None
    outputs = predict(files)
    if not {"classes", "scores"} <= set(outputs):
        raise NoAnswer(f"model {options.model!r} names no classes; serve what recipes/export.py wrote.")
    states = outputs.get("status", ["ok"] * len(files))
    names = [os.fsencode(path).decode(errors="backslashreplace") for path in options.images]  # need not be text
    width = max(map(len, names))
    for path, status, *best in zip(names, states, outputs["classes"], outputs["scores"], strict=True):
        table = "  ".join(f"{name} {score:.4f}" for name, score in zip(*best, strict=True))
        print(f"{path:{width}}  {table if status == 'ok' else status}")
    return 0 if set(states) == {"ok"} else 1


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", help="JPEG, PNG, GIF, BMP or WebP files of any size")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="default 8500, or 8501 with --rest")
    parser.add_argument("--model", default="mixer", help="its name on the server (MODEL_NAME)")
    parser.add_argument("--label", help="of a version, such as canary; default the largest version")
    parser.add_argument("--rest", action="store_true", help="JSON over HTTP instead of gRPC")
    parser.add_argument("--health", action="store_true", help="print the state of the model's versions")
    parser.add_argument("--signature", default="serving_bytes", choices=["serving_bytes", "serving_default"])
    parser.add_argument("--timeout", type=float, default=10, help="seconds for an answer")
    options = parser.parse_args(arguments)
    options.port = options.port or (8501 if options.rest else 8500)
    if bool(options.images) == options.health:
        parser.error("give the files of images, or --health")
    if not (0 < options.port < 65536 and options.timeout > 0):
        parser.error(f"--port is up to 65535 and --timeout positive, got {options.port} and {options.timeout:g}")
    if options.rest and options.signature != "serving_bytes":
        parser.error("--rest sends files as they are, which only --signature=serving_bytes takes")
    try:
        return run(options)
    except NoAnswer as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
