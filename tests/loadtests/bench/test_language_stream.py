import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from loadtests.bench.language.stream import Request, StreamError, ask
from tests.support.waiting import wait_until

COUNTS = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}


class Told(BaseHTTPRequestHandler):
    """Answers as its request says: with these ``pieces``, the last of them once the request ``until`` has come."""

    protocol_version = "HTTP/1.1"
    chunks: ClassVar[Counter[str]] = Counter()  # of each answer, written so far
    before: ClassVar[dict[str, Counter[str]]] = {}  # those that had been written when a request came

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.name = body.get("name", "")
        self.before[self.name] = self.chunks.copy()
        if "status" in body:
            self.send_response(body["status"])
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"refused")
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, piece in enumerate(body["pieces"], 1):
            if number == len(body["pieces"]) and "until" in body:
                wait_until(lambda: body["until"] in self.before, poll=0.001)
            choice = {"delta": {"content": piece}} if self.path == "/chat" else {"text": piece}
            self.event({"choices": [{"index": 0, **choice}], "usage": None})
        if body.get("break"):
            self.close_connection = True
            return
        self.event({"choices": [], "usage": COUNTS})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, content: Any) -> None:
        data = b"data: " + json.dumps(content).encode() + b"\n\n"
        self.chunk(data[:9])  # an event may come in two parts
        self.chunk(data[9:])

    def chunk(self, data: bytes) -> None:
        self.chunks[self.name] += 1
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["/", "/chat"])
def test_an_answer_has_its_text_a_time_for_each_token_and_the_servers_counts(port: int, path: str) -> None:
    (answer,) = ask(port, path, [Request({"pieces": ["", "one", " two", " three"]})])
    assert answer.text == "one two three"
    assert len(answer.times) == 3
    assert [answer.sent, *answer.times] == sorted([answer.sent, *answer.times])
    assert (answer.prompt, answer.cached) == (5, 2)


def test_several_are_answered_at_once_in_the_order_of_the_requests(port: int) -> None:
    bodies = {"pieces": ["a"], "until": "quick"}, {"name": "quick", "pieces": ["b"]}
    slow, quick = ask(port, "/", [Request(body) for body in bodies])  # one after the other would never end
    assert (slow.text, quick.text) == ("a", "b")


def test_a_late_request_is_sent_once_the_others_have_had_so_many_parts(port: int) -> None:
    bodies = {"name": "first", "pieces": "abc", "until": "late"}, {"name": "late", "pieces": "z"}
    first, late = ask(port, "/", [Request(bodies[0]), Request(bodies[1], after=4)])
    assert Told.before["late"]["first"] >= 4  # two tokens, an event in two parts each
    assert first.times[1] <= late.sent < first.times[2]
    assert (first.text, late.text) == ("abc", "z")


def test_a_delayed_request_is_sent_so_long_after_the_one_before_it(port: int) -> None:
    bodies = {"name": "quick", "pieces": "abc"}, {"name": "delayed", "pieces": "z"}
    quick, delayed = ask(port, "/", [Request(bodies[0]), Request(bodies[1], delay=0.2)])
    assert delayed.sent >= quick.sent + 0.2
    assert (quick.text, delayed.text) == ("abc", "z")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"status": 503}, "503: b'refused'"),
        ({"pieces": ["a"], "break": True}, "broke an answer off"),
        ({"pieces": [""]}, "no token"),
    ],
)
def test_what_is_no_whole_stream_is_an_error(port: int, body: dict[str, Any], told: str) -> None:
    with pytest.raises(StreamError, match=told):
        ask(port, "/", [Request(body)])
