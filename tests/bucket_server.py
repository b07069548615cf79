"""Buckets on loopback: the JSON API of Google Cloud Storage behind a TLS proxy, which TensorFlow's own client talks to.

    with bucket_server.serve(folder) as buckets:
        buckets.create("data")
        run_recipe("pretrain", "--workdir=gs://data/run", env=environment(**buckets.environment))
        buckets.objects["data"]["run/result.json"]

The client connects to the proxy as to any (https_proxy), and trusts its certificate (CURL_CA_BUNDLE). The server can be
slow, drop connections and answer with errors: see `Buckets.fault`.
"""

import contextlib
import dataclasses
import http.server
import json
import os
import re
import socketserver
import ssl
import threading
import time
import urllib.parse
import uuid

import trustme

HOSTS = ("www.googleapis.com", "storage.googleapis.com", "oauth2.googleapis.com")


@dataclasses.dataclass
class Fault:
    """What the next `count` requests that match get instead of an answer.

    Attributes:
        pattern: of "METHOD path?query", searched for.
        status: an HTTP status; "drop" to close the connection; a number of seconds after "wait" to answer late.
        count: of requests.
        after_bytes: with "drop" on a GET: bytes of the answer that are sent before.
    """

    pattern: str
    status: int | str
    count: int = 1
    after_bytes: int | None = None


class Buckets:
    """The objects of all buckets, what was asked for, and the faults to come."""

    def __init__(self, folder):
        self.objects, self.generations, self.uploads = {}, {}, {}
        self.asked, self.faults, self.lock = [], [], threading.RLock()
        self.bytes_read = {}  # of each object, over all requests
        self.read_only = set()
        authority = trustme.CA()
        self.certificate = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.certificate))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*HOSTS).configure_cert(self.context)
        self.port = None

    @property
    def environment(self):
        """What a client process needs to find this server."""
        proxy = f"http://127.0.0.1:{self.port}"
        return {
            **dict.fromkeys(("https_proxy", "HTTPS_PROXY"), proxy),
            **{name: str(self.certificate) for name in ("CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")},
            **{"NO_GCE_CHECK": "true", "GCS_READ_CACHE_MAX_SIZE_MB": "0", "no_proxy": "127.0.0.1,localhost"},
        }

    def create(self, name):
        self.objects[name], self.generations[name] = {}, {}

    def put(self, bucket, name, content):
        with self.lock:
            self.objects[bucket][name] = content
            self.generations[bucket][name] = self.generations[bucket].get(name, 0) + 1

    def fault(self, pattern, status, count=1, after_bytes=None):
        """Have the next requests that match fail; see `Fault`."""
        self.faults.append(Fault(pattern, status, count, after_bytes))

    def next_fault(self, request):
        with self.lock:
            for fault in self.faults:
                if fault.count and re.search(fault.pattern, request):
                    fault.count -= 1
                    return fault
        return None


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads, allow_reuse_address = True, True

    def handle_error(self, request, client_address):
        pass  # of a client that was killed, or a connection that was dropped on purpose


class _Connection(socketserver.BaseRequestHandler):
    """A client that asks the proxy for a connection to one of the hosts, and gets this server."""

    def handle(self):
        received = b""
        while b"\r\n\r\n" not in received:
            part = self.request.recv(4096)
            if not part:
                return
            received += part
        if not received.startswith(b"CONNECT "):
            self.request.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with contextlib.suppress(OSError), self.server.buckets.context.wrap_socket(self.request, server_side=True) as s:
            _Api(s, self.client_address, self.server)


class _Api(http.server.BaseHTTPRequestHandler):
    """The part of the JSON API that clients use: of objects get, list, insert, rewrite and delete."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.buckets = self.server.buckets

    def _handle(self):
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        self.body = self._read_body()
        request = f"{self.command} {urllib.parse.unquote(self.path)}"
        with self.buckets.lock:
            self.buckets.asked.append(request)
        self.failing = self.buckets.next_fault(request)
        if self.failing is not None:
            status = self.failing.status
            if isinstance(status, int):
                return self._json({"error": {"code": status, "message": "as the test wants"}}, status)
            if status == "drop" and self.failing.after_bytes is None:
                self.close_connection = True
                return self.connection.close()
            if status.startswith("wait"):
                time.sleep(float(status.split()[1]))
        return self._answer(url.path)

    def _read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle

    def _answer(self, path):
        unquote = urllib.parse.unquote
        if found := re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path):
            return self._upload(unquote(found[1]))
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)", path):
            return self._copy(*map(unquote, found.groups()))
        if found := re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)", path):
            return self._object(unquote(found[1]), unquote(found[2]))
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)/o", path):
            return self._list(unquote(found[1]))
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)", path):
            return self._json({"location": "US"}) if unquote(found[1]) in self.buckets.objects else self._missing()
        if found := re.fullmatch(r"/([^/]+)/(.+)", path):
            return self._content(unquote(found[1]), unquote(found[2]))
        return self._missing()

    # ---- Objects

    def _facts(self, bucket, name):
        content = self.buckets.objects[bucket][name]
        return {
            **{"kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(content))},
            **{"generation": str(self.buckets.generations[bucket][name]), "updated": "2026-01-01T00:00:00.000Z"},
        }

    def _object(self, bucket, name):
        if name not in self.buckets.objects.get(bucket, {}):
            return self._missing()
        if self.command == "DELETE":
            if bucket in self.buckets.read_only:
                return self._json({"error": {"code": 403, "message": "read only"}}, 403)
            with self.buckets.lock:
                del self.buckets.objects[bucket][name]
            return self._send(204)
        return (
            self._content(bucket, name) if self.query.get("alt") == "media" else self._json(self._facts(bucket, name))
        )

    def _content(self, bucket, name):
        content = self.buckets.objects.get(bucket, {}).get(name)
        if content is None:
            return self._missing()
        headers, status = {}, 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
            if first >= len(content):
                return self._send(416)
            headers, status = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}, 206
            content = content[first : last + 1]
        with self.buckets.lock:
            read = self.buckets.bytes_read
            read[f"{bucket}/{name}"] = read.get(f"{bucket}/{name}", 0) + len(content)
        return self._send(status, content, headers)

    def _list(self, bucket):
        if bucket not in self.buckets.objects:
            return self._missing()
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        names, prefixes = [], set()
        for name in sorted(self.buckets.objects[bucket]):
            if not name.startswith(prefix):
                continue
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                prefixes.add(name[: end + 1])
            else:
                names.append(name)
        start, count = int(self.query.get("pageToken", 0)), int(self.query.get("maxResults", 1000))
        page = names[start : start + count]
        answer = {"items": [self._facts(bucket, name) for name in page], "prefixes": sorted(prefixes)}
        return self._json(answer | ({"nextPageToken": str(start + count)} if len(names) > start + count else {}))

    def _copy(self, bucket, name, to_bucket, to_name):
        content = self.buckets.objects.get(bucket, {}).get(name)
        if content is None or to_bucket not in self.buckets.objects:
            return self._missing()
        return self._insert(to_bucket, to_name, content, lambda facts: {"done": True, "resource": facts})

    def _insert(self, bucket, name, content, answer=lambda facts: facts):
        if bucket in self.buckets.read_only:
            return self._json({"error": {"code": 403, "message": "read only"}}, 403)
        with self.buckets.lock:
            wanted = self.query.get("ifGenerationMatch")
            present = self.buckets.generations[bucket].get(name, 0) if name in self.buckets.objects[bucket] else 0
            if wanted is not None and int(wanted) != present:
                return self._json({"error": {"code": 412, "message": "another generation"}}, 412)
            self.buckets.put(bucket, name, content)
            return self._json(answer(self._facts(bucket, name)))

    # ---- Uploads: whole, or in parts to a session

    def _upload(self, bucket):
        if bucket not in self.buckets.objects:
            return self._missing()
        if self.command == "POST" and self.query.get("uploadType") == "media":
            return self._insert(bucket, self.query["name"], self.body)
        if self.command == "POST":
            name = self.query.get("name") or json.loads(self.body or b"{}").get("name")
            if bucket in self.buckets.read_only:
                return self._json({"error": {"code": 403, "message": "read only"}}, 403)
            key = uuid.uuid4().hex
            self.buckets.uploads[key] = (bucket, name, bytearray())
            host = self.headers.get("Host", HOSTS[0])
            there = f"https://{host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={key}"
            return self._send(200, b"", {"Location": there})
        bucket, name, received = self.buckets.uploads[self.query["upload_id"]]
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers.get("Content-Range", ""))
        if found is None:  # the whole in one request
            return self._insert(bucket, name, self.body)
        if found[1] is not None:
            received[int(found[1]) :] = self.body
        if found[3] == "*" or len(received) < int(found[3]):
            headers = {"Range": f"bytes=0-{len(received) - 1}"} if received else {}
            return self._send(308, b"", headers)
        return self._insert(bucket, name, bytes(received))

    # ---- Answers

    def _missing(self):
        return self._json({"error": {"code": 404, "message": "Not Found"}}, 404)

    def _json(self, value, status=200):
        return self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status, content=b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.failing is not None and self.failing.after_bytes is not None:
            self.wfile.write(content[: self.failing.after_bytes])
            self.close_connection = True
            self.connection.close()
        elif self.command != "HEAD":
            self.wfile.write(content)


@contextlib.contextmanager
def serve(folder):
    """Yield `Buckets` that a server on a free port of this machine gives and takes; `folder` takes its certificate."""
    buckets = Buckets(folder)
    with _Proxy(("127.0.0.1", 0), _Connection) as server:
        server.buckets, buckets.port = buckets, server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield buckets
        server.shutdown()


def environment(buckets):
    """The environment of this process, and what a client needs to find the server."""
    return {**os.environ, **buckets.environment}
