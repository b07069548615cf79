"""A small HTTP server on 127.0.0.1 that serves a folder, with ranges, and misbehaves on request."""

import contextlib
import http.server
import pathlib
import re
import threading


class FileServer:
    """`folder` is served at `url`; `requests` lists (path, Range header); the other attributes are its faults."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.requests = []
        self.ranges = True
        self.drops = []  # for the next requests: bytes after which the connection is closed
        self.statuses = []  # for the next requests: HTTP errors
        self.delay = threading.Event()  # set: requests are answered at once
        self.delay.set()
        self.declare_length = True

    @contextlib.contextmanager
    def running(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range")))
                outer.delay.wait(30)
                path = outer.folder / self.path.lstrip("/").split("?")[0]
                self.close_connection = True
                if outer.statuses:
                    return self.send_error(outer.statuses.pop(0))
                if not path.is_file():
                    return self.send_error(404)
                data, start = path.read_bytes(), 0
                match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
                if match and outer.ranges:
                    start = int(match[1])
                    if start >= len(data):
                        return self.send_error(416)
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                else:
                    self.send_response(200)
                data = data[start:]
                if outer.declare_length:
                    self.send_header("Content-Length", str(len(data)))
                self.send_header("Connection", "close")
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(data[: outer.drops.pop(0)] if outer.drops else data)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            self.delay.set()
            server.shutdown()
            thread.join()
            server.server_close()
