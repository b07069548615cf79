"""A server on 127.0.0.1 that speaks TensorFlow Serving's gRPC and REST, and answers from an exported folder.

The messages are TensorFlow Serving's own. Requests are checked as its predict_util.cc does; errors have its codes.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import re
import threading

import grpc
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


class Refused(Exception):
    """A request fails with a code of gRPC and a message."""


class Server:
    """What the two protocols share: the model `mixer`, version 3, which has the label `stable`."""

    def __init__(self, folder):
        self.folder = folder
        meta_graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
        assert list(meta_graph.meta_info_def.tags) == ["serve"]
        self.signature_defs = meta_graph.signature_def
        self.model = tf.saved_model.load(str(folder), tags="serve")
        self.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        self.requests = []  # (signature, shape of images) of each Predict
        self.answer_now = threading.Event()
        self.answer_now.set()

    def find(self, spec):
        if spec.name != "mixer" or (spec.HasField("version") and spec.version.value != 3):
            raise Refused("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
        if spec.version_label not in ("", "stable"):
            raise Refused("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")

    def predict(self, request):
        self.answer_now.wait(20)
        self.find(request.model_spec)
        name = request.model_spec.signature_name or "serving_default"
        if name not in self.signature_defs:
            raise Refused("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        wanted = self.signature_defs[name].inputs
        if set(request.inputs) != set(wanted):
            raise Refused("INVALID_ARGUMENT", f"input size does not match signature: {sorted(request.inputs)}")
        if request.inputs["images"].dtype != wanted["images"].dtype:
            raise Refused("INVALID_ARGUMENT", f"images: type {request.inputs['images'].dtype} does not match signature")
        images = tf.constant(tf.make_ndarray(request.inputs["images"]))
        self.requests.append((name, tuple(images.shape)))
        try:
            outputs = self.model.signatures[name](images=images)
        except tf.errors.OpError as error:
            # A session's message starts there (test_c_loader.py); eager execution writes its own before.
            raise Refused("INVALID_ARGUMENT", error.message[error.message.index("assertion failed") :]) from None
        answer = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
        assert set(answer.outputs) == set(self.signature_defs[name].outputs)
        return answer

    def status(self, spec):
        if spec.name != "mixer":
            raise Refused("NOT_FOUND", f"Could not find any versions of model {spec.name}")
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=3, state=self.state)
        return answer

    @contextlib.contextmanager
    def by_grpc(self):
        """Give the port."""

        def answered(context, function, argument):
            try:
                return function(argument)
            except Refused as error:
                context.abort(grpc.StatusCode[error.args[0]], error.args[1])

        class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
            Predict = lambda _, request, context: answered(context, self.predict, request)

        class Models(model_service_pb2_grpc.ModelServiceServicer):
            GetModelStatus = lambda _, request, context: answered(context, self.status, request.model_spec)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            server = grpc.server(pool)
            prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), server)
            model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            yield port
            server.stop(None).wait()

    @contextlib.contextmanager
    def by_rest(self):
        """Give the port. https://www.tensorflow.org/tfx/serving/api_rest, row format."""
        outer, path_of = self, re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(:predict)?")
        statuses = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(
                    lambda spec, _: json_format.MessageToDict(outer.status(spec), preserving_proto_field_name=True)
                )

            def do_POST(self):
                self.answer(outer.predict_rows)

            def answer(self, function):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                name, version, label, method = path_of.fullmatch(self.path).groups()
                assert bool(method) == (self.command == "POST")
                request = predict_pb2.PredictRequest()
                spec = request.model_spec
                spec.name, spec.version_label = name, label or ""
                if version:
                    spec.version.value = int(version)
                try:
                    answer, status = function(spec, json.loads(body or "null")), 200
                except Refused as error:
                    answer, status = {"error": error.args[1]}, statuses[error.args[0]]
                with contextlib.suppress(ConnectionError):  # of a client that waits no longer
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.end_headers()
                    self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *args):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            yield server.server_port
            server.shutdown()
            thread.join()

    def predict_rows(self, spec, body):
        """Answer {"signature_name", "instances"}: {"b64": ...} is bytes; string outputs not called *_bytes are text."""
        assert set(body) <= {"signature_name", "instances"}
        request = predict_pb2.PredictRequest(model_spec=spec)
        request.model_spec.signature_name = body.get("signature_name", "")
        # An object is a value of bytes, or the named inputs of a row.
        rows = [row if set(row) != {"b64"} else {"images": row} for row in body["instances"]]
        for name in rows[0]:
            values = [base64.b64decode(row[name]["b64"], validate=True) for row in rows]
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        outputs = {name: tf.make_ndarray(tensor).tolist() for name, tensor in self.predict(request).outputs.items()}
        text = lambda value: value.decode() if isinstance(value, bytes) else value
        plain = lambda value: [plain(each) for each in value] if isinstance(value, list) else text(value)
        return {"predictions": [{name: plain(outputs[name][i]) for name in outputs} for i in range(len(rows))]}
