"""A tiny server in place of a real peer: multiplies the x of ``{"x": …}``, and answers 400 to what is no JSON."""

import sys

SERVER = """
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status, answer = 200, {"prediction": json.loads(body)["x"] * float(sys.argv[2])}
        except (ValueError, TypeError):
            status, answer = 400, {}
        answer = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def command(port: int, factor: float) -> list[str]:
    """What runs it."""
    return [sys.executable, "-c", SERVER, str(port), str(factor)]
