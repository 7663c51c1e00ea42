"""What the management port passes on, and to whom; TorchServe's own management obeys everybody."""

import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from serving.hosts.torchserve.management import Management, ManagementError, socket_client
from serving.hosts.torchserve.management_port import ManagementPort, server
from serving.registry import Registry
from tests.support.serving.stores import add, alter
from tests.support.serving.torchserve import FakeTorchServe

TOKEN = "a-long-secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HOME = "http://127.0.0.1:8081"


@pytest.fixture
def torchserve(registry: Registry) -> FakeTorchServe:
    for number in ("1.0", "1.1"):
        add(registry, "linear", number)
    add(registry, "flights")
    return FakeTorchServe({"linear": ["1.0"], "flights": ["1.0"]})


def caller(
    registry: Registry,
    torchserve: FakeTorchServe,
    token: str = "",
    address: str = "127.0.0.1",
    hosts: frozenset[str] = frozenset(),
) -> httpx.Client:
    """A client that calls the port from an address."""
    port = ManagementPort(registry, torchserve.client, token, hosts)
    return httpx.Client(transport=httpx.WSGITransport(app=port, remote_addr=address), base_url=HOME)


def test_on_loopback_models_are_listed_registered_scaled_and_removed(
    registry: Registry, torchserve: FakeTorchServe
) -> None:
    management = Management(HOME, caller(registry, torchserve))
    assert management.versions() == {"linear": ["1.0"], "flights": ["1.0"]}
    management.register("linear-1.1.mar", "linear", "1.1")
    management.set_default("linear", "1.1")
    management.unregister("linear", "1.0")
    assert torchserve.changes == ["register linear 1.1", "default linear 1.1", "unregister linear 1.0"]


@pytest.mark.parametrize("asked", [{}, {"synchronous": "true"}, {"synchronous": "TRUE", "initial_workers": "2"}])
def test_whoever_waits_for_a_registration_waits_here_and_gets_torchserves_own_answer(
    registry: Registry, torchserve: FakeTorchServe, asked: dict[str, str]
) -> None:
    answer = caller(registry, torchserve).post("/models", params={"url": "linear-1.1.mar", **asked})
    count = asked.get("initial_workers", "1")
    said = {"status": f'Model "linear" Version: 1.1 registered with {count} initial workers'}
    assert (answer.status_code, answer.json()) == (200, said)
    assert [params["synchronous"] for params in torchserve.registrations] == ["false"]
    assert torchserve.asked[-1] == "GET /models/linear/1.1"


def test_a_registration_that_nobody_waits_for_is_answered_at_once(
    registry: Registry, torchserve: FakeTorchServe
) -> None:
    client = caller(registry, torchserve)
    for asked in ({"synchronous": "false"}, {"initial_workers": "0"}):
        answer = client.post("/models", params={"url": "linear-1.1.mar", **asked})
        assert (answer.status_code, answer.json()) == (202, {"status": "Processing worker updates..."})


def test_what_does_not_load_is_told_as_torchserve_does_and_removed(registry: Registry) -> None:
    for number in ("1.0", "1.1"):
        add(registry, "linear", number)
    torchserve = FakeTorchServe({"linear": ["1.0"]}, broken=["linear-1.1.mar"])
    answer = caller(registry, torchserve).post("/models", json={"url": "linear-1.1.mar", "synchronous": True})
    assert answer.status_code == 500
    assert answer.json()["message"] == "Failed to start workers for model linear version: 1.1"
    assert torchserve.versions == {"linear": ["1.0"]}


def test_whoever_waits_for_more_workers_waits_here(registry: Registry, torchserve: FakeTorchServe) -> None:
    client, path = caller(registry, torchserve), "/models/linear/1.0?min_worker=2"
    assert client.put(path).status_code == 202
    answer = client.put(f"{path}&synchronous=true")
    assert answer.json() == {"status": "Workers scaled to 2 for model: linear, version: 1.0"}
    assert torchserve.asked[-1] == "GET /models/linear/1.0"


def test_a_torchserve_that_ends_while_a_caller_waits_is_a_502(registry: Registry, torchserve: FakeTorchServe) -> None:
    add(registry, "gone")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            raise httpx.ConnectError("no such file")
        return httpx.Response(202, json={"status": "Processing worker updates..."})

    port = ManagementPort(registry, httpx.Client(transport=httpx.MockTransport(answer)))
    client = httpx.Client(transport=httpx.WSGITransport(app=port), base_url=HOME)
    assert client.post("/models?url=gone-1.0.mar").status_code == 502


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8081", "127.0.0.1", "127.0.0.5:9000", "[::1]:8081"])
def test_a_caller_on_this_machine_may_use_its_names(registry: Registry, torchserve: FakeTorchServe, host: str) -> None:
    assert caller(registry, torchserve).get("/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8081"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "evil.example@127.0.0.1"},
        {"Host": "127.0.0.1,evil.example"},
        {"Host": "10.1.2.3:8081"},
        {"Host": "[::ffff:10.1.2.3]"},
        {"Host": "0.0.0.0:8081"},
        {"Host": ""},
        {"Host": "localhost:port"},
        {"Host": "[localhost"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://localhost:8081"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/models"), ("POST", "/models?url=linear-1.1.mar"), ("DELETE", "/models/linear/1.0")],
)
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_page_or_a_foreign_name_is_refused_even_with_the_token(
    registry: Registry, torchserve: FakeTorchServe, method: str, path: str, headers: Mapping[str, str], token: str
) -> None:
    response = caller(registry, torchserve, token).request(method, path, headers={**BEARER, **headers})
    assert response.status_code == 403
    assert response.json()["code"] == 403
    assert torchserve.changes == []


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7"])
def test_with_a_token_configured_nobody_is_answered_without_it(
    registry: Registry, torchserve: FakeTorchServe, given: str | None, address: str
) -> None:
    headers = {} if given is None else {"Authorization": given}
    client = caller(registry, torchserve, TOKEN, address)
    for method, path in (("GET", "/models"), ("DELETE", "/models/linear/1.0"), ("OPTIONS", "/")):
        response = client.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert torchserve.changes == []


def test_our_own_client_sends_the_token(registry: Registry, torchserve: FakeTorchServe) -> None:
    client = caller(registry, torchserve, TOKEN)
    Management(HOME, client, TOKEN).unregister("linear", "1.0")
    assert torchserve.changes == ["unregister linear 1.0"]
    with pytest.raises(ManagementError, match="401 this port needs the header Authorization"):
        Management(HOME, client).versions()


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.2", "::ffff:10.0.0.7", ""])
def test_without_a_token_only_this_machine_is_answered(
    registry: Registry, torchserve: FakeTorchServe, address: str
) -> None:
    response = caller(registry, torchserve, address=address).get("/models")
    assert response.status_code == 403
    assert "without MARLOOP_TOKEN" in response.json()["message"]


def test_another_machine_may_use_a_name_that_is_configured_with_the_token(
    registry: Registry, torchserve: FakeTorchServe
) -> None:
    client = caller(registry, torchserve, TOKEN, "10.0.0.7", frozenset({"torchserve"}))
    assert client.get("/models", headers={**BEARER, "Host": "torchserve:8081"}).status_code == 200
    assert client.get("/models", headers={**BEARER, "Host": "torchserve.evil.example"}).status_code == 403


def test_an_archive_that_the_registry_does_not_name_is_not_loaded(
    registry: Registry, torchserve: FakeTorchServe, tmp_path: Path
) -> None:
    (registry.store / "evil-1.0.mar").write_bytes(b"code")
    client = caller(registry, torchserve)
    store = registry.store
    for url in (
        *("evil-1.0.mar", "", ".", "..", "../store/linear-1.1.mar", "./linear-1.1.mar", "linear-1.1.mar/"),
        *("linear-1.1.mar\x00", "LINEAR-1.1.MAR", "%6cinear-1.1.mar", "registry.json", str(tmp_path), str(store)),
        *(f"file://{store}/linear-1.1.mar", f"file:{store}/linear-1.1.mar", f"file://{store}/%2e%2e%2fevil.mar"),
        *(f"jar:file://{store}/linear-1.1.mar!/", "http://127.0.0.1:1/linear-1.1.mar", "s3://b/linear-1.1.mar"),
    ):
        response = client.post("/models", params={"url": url})
        assert response.status_code == 403, url
        assert "no archive that the registry names" in response.json()["message"]
    assert client.post("/models").status_code == 403
    assert torchserve.changes == []


def test_an_archive_that_is_not_as_it_was_registered_is_not_loaded(
    registry: Registry, torchserve: FakeTorchServe
) -> None:
    client = caller(registry, torchserve)
    alter(registry.store / "linear-1.1.mar")
    (registry.store / "flights-1.0.mar").unlink()
    assert "SHA-256" in client.post("/models?url=linear-1.1.mar").json()["message"]
    assert "is not there" in client.post("/models?url=flights-1.0.mar").json()["message"]
    registry.path.write_text("{")
    response = client.post("/models?url=linear-1.1.mar")
    assert (response.status_code, torchserve.changes) == (403, [])


def test_a_symbolic_link_in_the_store_has_the_sha256_of_what_it_points_at(
    registry: Registry, torchserve: FakeTorchServe, tmp_path: Path
) -> None:
    (tmp_path / "evil").write_bytes(b"code")
    (registry.store / "linear-1.1.mar").unlink()
    (registry.store / "linear-1.1.mar").symlink_to(tmp_path / "evil")
    assert caller(registry, torchserve).post("/models?url=linear-1.1.mar").status_code == 403


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("url=linear-1.1.mar&url=evil.mar", 400),
        ("url=linear-1.1.mar&handler=os:system", 400),
        ("url=linear-1.1.mar&runtime=python2", 400),
        ("url=linear-1.1.mar&s3_sse_kms=true", 400),
        ("url=linear-1.1.mar&model_name=flights", 403),
        ("url=linear-1.1.mar&model_name=../../x", 403),
        ("url=linear-1.1.mar&model_name=", 403),
        ("url=linear-1.1.mar&x=%ff", 400),
        ("&".join(f"x{n}=1" for n in range(100)), 400),
    ],
)
def test_parameters_that_name_other_code_or_another_model_are_refused(
    registry: Registry, torchserve: FakeTorchServe, query: str, status: int
) -> None:
    assert caller(registry, torchserve).post(f"/models?{query}").status_code == status
    assert torchserve.changes == []


def test_a_registration_in_json_is_checked_as_one_in_the_query(registry: Registry, torchserve: FakeTorchServe) -> None:
    client = caller(registry, torchserve)
    asked = {"url": "linear-1.1.mar", "synchronous": True, "initial_workers": 1, "batch_size": None}
    assert client.post("/models", json=asked).status_code == 200
    assert torchserve.changes == ["register linear 1.1"]
    assert client.post("/models?url=linear-1.1.mar", json={"url": "evil.mar"}).status_code == 403
    assert client.post("/models", json={"url": ["linear-1.1.mar"]}).status_code == 400
    assert client.post("/models", json=["linear-1.1.mar"]).status_code == 400
    assert client.post("/models", content=b"[" * 60000).status_code == 400
    assert client.post("/models", content=b" " * 70000).status_code == 413
    chunked = client.post("/models", content=iter([b'{"url": "evil.mar"}']))
    assert chunked.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/workflows?url=evil.war"),
        ("GET", "/workflows"),
        ("POST", "/models/"),
        ("POST", "//models?url=evil.mar"),
        ("POST", "/models/linear"),
        ("POST", "/%6dodels/../models/x"),
        ("DELETE", "/models/linear/1.0/set-default"),
        ("DELETE", "/models/..%2f..%2fx"),
        ("PUT", "/models/linear/1.0/set-default/x"),
        ("PATCH", "/models"),
        ("TRACE", "/models"),
        ("GET", "/token?type=management"),
        ("GET", "/metrics"),
    ],
)
def test_what_is_no_management_of_models_is_not_passed_on(
    registry: Registry, torchserve: FakeTorchServe, method: str, path: str
) -> None:
    assert caller(registry, torchserve).request(method, path).status_code == 404
    assert torchserve.asked == []


def test_its_health_needs_no_token_and_says_nothing(registry: Registry, torchserve: FakeTorchServe) -> None:
    response = caller(registry, torchserve, TOKEN, "10.0.0.7").get("/healthz", headers={"Host": "any"})
    assert (response.status_code, response.text) == (200, "ok\n")
    assert torchserve.asked == []


def test_a_torchserve_that_does_not_answer_is_a_502(registry: Registry, tmp_path: Path) -> None:
    port = ManagementPort(registry, socket_client(str(tmp_path / "none.sock"), httpx.Timeout(5)))
    response = httpx.Client(transport=httpx.WSGITransport(app=port), base_url=HOME).get("/models")
    assert response.status_code == 502
    assert "does not answer on its socket" in response.json()["message"]


@pytest.fixture
def address(registry: Registry, torchserve: FakeTorchServe) -> Iterator[tuple[str, int]]:
    """Where a real server of the port listens."""
    served = server(ManagementPort(registry, torchserve.client), "127.0.0.1", 0)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield "127.0.0.1", served.server_port
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.mark.parametrize(
    "request_text",
    [
        "POST /models?url=linear-1.1.mar HTTP/1.1\r\nHost: evil.example\r\nHost: 127.0.0.1\r\n\r\n",
        "POST /models?url=linear-1.1.mar HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        "POST http://evil.example/models?url=linear-1.1.mar HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "POST /models?url=linear-1.1.mar HTTP/1.1\r\n\r\n",
        "POST /models?url=linear-1.1.mar HTTP/1.0\r\n\r\n",
        "POST /models?url=linear-1.1.mar HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n",
        "GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        "DELETE /models/linear/1.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)
def test_over_a_connection_no_spelling_of_a_request_gets_past_the_checks(
    address: tuple[str, int], torchserve: FakeTorchServe, request_text: str
) -> None:
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(request_text.encode())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert torchserve.changes == []
