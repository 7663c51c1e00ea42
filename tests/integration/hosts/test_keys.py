"""API keys on a direct host as a user runs it: unmodified clients, a revoked key, and the house's own clients."""

import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from serving.hosts.direct import background
from serving.readiness import ask_all
from serving.registry import Registry
from serving.security import house_key
from serving.security.keys import KeyFile
from tests.integration.conftest import Server, put, serve, settings_for
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = put(tmp_path_factory.mktemp("keys") / "store", "linear")
    with tempfile.TemporaryDirectory() as folder, serve(settings_for(store, Path(folder), host="direct")) as running:
        yield running


def status(host: Server, **headers: str) -> int:
    url = f"{host.url}/predictions/linear"
    return httpx.post(url, json={"x": 6}, headers=headers, timeout=10, trust_env=False).status_code


def always(host: Server, expected: int, **headers: str) -> bool:
    """Whether every worker answers so: each connection may reach another one."""
    return all(status(host, **headers) == expected for _ in range(20))


def test_keys_are_asked_for_from_the_first_on_and_end_when_they_are_revoked(host: Server) -> None:
    assert status(host) == 200
    file = KeyFile(host.settings.model_store)
    key = file.add("app")
    wait_until(lambda: always(host, 401), timeout=10)
    assert always(host, 200, Authorization=f"Bearer {key}")

    assert all(model.ready for model in ask_all(Registry(file.path.parent), host.url, house_key.of(host.settings)))
    assert not any(model.ready for model in ask_all(Registry(file.path.parent), host.url))

    other = file.add("other", ("flights",))
    slow = file.add("slow", rate=0.001)
    wait_until(lambda: always(host, 403, Authorization=f"Bearer {other}"), timeout=10)
    wait_until(lambda: always(host, 429, Authorization=f"Bearer {slow}"), timeout=10)
    for name, fault in (("mar_no", openai.AuthenticationError), (slow, openai.RateLimitError)):
        with (
            openai.OpenAI(base_url=f"{host.url}/v1", api_key=name, max_retries=0) as client,
            pytest.raises(fault),
        ):
            client.chat.completions.create(model="linear", messages=[{"role": "user", "content": "?"}])

    with socket.create_connection((host.settings.bind_address, host.settings.inference_port), timeout=10) as raw:
        raw.sendall(b"POST /predictions/linear HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer.lower()

    def counted(name: str, code: str) -> bool:
        text = httpx.get(f"{host.settings.exporter_url}/metrics", timeout=10, trust_env=False).text
        return re.search(rf'marloop_requests_by_key_total{{code="{code}",key="{name}"}} [1-9]', text) is not None

    wait_until(lambda: counted("app", "2xx") and counted("none", "4xx") and counted("unknown", "4xx"), timeout=10)

    file.revoke("app")
    wait_until(lambda: always(host, 401, Authorization=f"Bearer {key}"), timeout=10)
    for name in background.parts(host.settings):
        assert key not in background.log(host.settings, name).read_text()
