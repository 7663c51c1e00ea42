"""Attacks on TorchServe's management, each of which ran code or removed a model before a check of ours stood there."""

import json
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.hosts.torchserve.management import Management, ManagementError
from serving.readiness import ask_all
from serving.registry import Registry
from tests.integration.conftest import Server

MANIFEST = {"runtime": "python", "model": {"modelName": "evil", "handler": "code.py", "modelVersion": "1.0"}}
SERVICE = "/org.pytorch.serve.grpc.management.ManagementAPIsService"
SERVED = {"linear", "flights", "fashion"}


class Evil:
    """A model that nobody registered, as an archive and unpacked; it leaves a file when its code runs."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.trace, self.unpacked = folder / "ran", folder / "unpacked"
        (self.unpacked / "MAR-INF").mkdir(parents=True)
        (self.unpacked / "code.py").write_text(f"open({str(self.trace)!r}, 'w').close()\n")
        (self.unpacked / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(MANIFEST))
        self.archive = store / "evil-1.0.mar"
        with zipfile.ZipFile(self.archive, "w") as archive:
            for name in ("code.py", "MAR-INF/MANIFEST.json"):
                archive.write(self.unpacked / name, name)


@pytest.fixture
def evil(server: Server, tmp_path: Path) -> Iterator[Evil]:
    world = Evil(tmp_path, server.settings.model_store)
    yield world
    world.archive.unlink()
    served = Management(server.settings.management_address, server.client).versions()
    assert (set(served), world.trace.exists()) == (SERVED, False)


def test_neither_an_archive_nor_a_folder_that_nobody_registered_is_loaded(server: Server, evil: Evil) -> None:
    port, store = server.settings.management_url, server.settings.model_store
    shutil.copy(evil.archive, store.parent / "outside.mar")
    urls = (evil.archive.name, str(evil.unpacked), f"file://{evil.archive}", f"file://{store}/%2e%2e%2foutside.mar")
    for url in (*urls, f"jar:file://{evil.archive}!/"):
        params = {"url": url, "synchronous": "true", "initial_workers": "1", "model_name": "evil"}
        assert server.client.post(f"{port}/models", params=params).status_code == 403, url
        assert server.client.post(f"{port}/models", json=params).status_code == 403, url


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_a_page_in_a_browser_neither_registers_nor_removes(server: Server, evil: Evil, headers: dict[str, str]) -> None:
    port = server.settings.management_url
    assert server.client.delete(f"{port}/models/linear", headers=headers).status_code == 403
    assert server.client.post(f"{port}/models?url=linear-1.0.mar", headers=headers).status_code == 403
    assert server.client.put(f"{port}/models/linear?min_worker=0", headers=headers).status_code == 403


def test_the_port_manages_what_the_registry_names(server: Server) -> None:
    port = server.settings.management_url
    models = server.client.get(f"{port}/models").json()["models"]
    assert {model["modelName"] for model in models} == SERVED
    described = server.client.get(f"{port}/models/linear").json()
    assert described[0]["modelUrl"] == "linear-1.0.mar"
    asked = {"url": "linear-1.0.mar", "model_name": "linear-again", "initial_workers": 1, "synchronous": True}
    response = server.client.post(f"{port}/models", json=asked)
    assert response.status_code == 200, response.text
    assert server.client.delete(f"{port}/models/linear-again").status_code == 200


def test_the_socket_behind_the_port_is_this_users_alone_and_takes_no_url(server: Server, evil: Evil) -> None:
    assert server.settings.socket.is_socket()
    assert server.settings.socket.parent.stat().st_mode & 0o077 == 0
    management = Management(server.settings.management_address, server.client)
    for url in (f"file://{evil.archive}", f"file://{evil.archive.parent}/%2e%2e%2foutside.mar"):
        with pytest.raises(ManagementError, match="does not match any allowed URL"):
            management.register(url, "evil")


@pytest.mark.parametrize("method", ["RegisterModel", "UnregisterModel", "ScaleWorker", "SetDefault", "ListModels"])
def test_nothing_answers_behind_the_management_over_grpc(server: Server, evil: Evil, method: str) -> None:
    # RegisterModelRequest of management.proto: initial_workers = 3, model_name = 5, synchronous = 8, url = 9.
    message = b"\x18\x01" + _field(5, b"evil") + b"\x40\x01" + _field(9, evil.archive.name.encode())
    if method == "UnregisterModel":
        message = _field(1, b"linear")
    frames = _call(server.settings.grpc_management_port, f"{SERVICE}/{method}", message)
    assert b"is unimplemented" in frames


@pytest.mark.parametrize("path", ["models?url=evil-1.0.mar", "workflows?url=evil.war", "wfpredict/evil", "token"])
def test_the_inference_port_manages_nothing(server: Server, evil: Evil, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert server.client.request(method, f"{server.url}/{path}").status_code in (404, 405)


def test_archives_are_taken_only_from_the_model_store(server: Server, tmp_path: Path, store: Path) -> None:
    outside = shutil.copy(next(store.glob("linear-*.mar")), tmp_path / "evil.mar")
    management = Management(server.settings.management_address, server.client)
    for url in ("http://127.0.0.1:1/evil.mar", f"file://{outside}", f"file://{store}/../evil.mar"):
        with pytest.raises(ManagementError, match=r"40\d|Relative|allowed"):
            management.register(url, "evil")
    assert set(management.versions()) == SERVED


def test_probes_need_no_token(server: Server) -> None:
    assert server.client.get(f"{server.url}/ping").status_code == 200
    registry = Registry(server.settings.model_store)
    assert all(champion.ready for champion in ask_all(registry, server.settings.inference_url))


def _call(port: int, path: str, message: bytes) -> bytes:
    """Send one gRPC call over HTTP/2 (RFC 9113), and return all that comes back until the stream ends."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "127.0.0.1"}
    headers |= {"content-type": "application/grpc", "te": "trailers"}
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers.items())
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"")
        connection.sendall(preface + _frame(1, 4, 1, block) + _frame(0, 1, 1, body))
        received = b""
        while not _ended(received):
            part = connection.recv(65536)
            assert part, received
            received += part
    return received


def _ended(received: bytes) -> bool:
    """Whether a frame of headers ends the stream."""
    while len(received) >= 9:
        length, kind, flags = int.from_bytes(received[:3], "big"), received[3], received[4]
        if kind == 1 and flags & 1 and len(received) >= 9 + length:
            return True
        received = received[9 + length :]
    return False


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value
