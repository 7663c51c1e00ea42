"""API keys on a direct host as a user runs it: unmodified clients, a revoked key, and the house's own clients."""

import asyncio
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import openai
import pytest
from msgspec.structs import replace

from serving.hosts.direct import background
from serving.hosts.host import LaunchError
from serving.readiness import ask_all
from serving.registry import Registry
from serving.security import house_key
from serving.security.keys import KeyFile
from tests.clients import environments
from tests.integration.conftest import Server, put, serve, settings_for
from tests.serving.security.test_keys import Guarded
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("keys") / "store", "linear")


@pytest.fixture(scope="module")
def host(store: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(store, Path(folder), host="direct")
        with serve(replace(settings, grpc=find_spec("grpc") is not None)) as running:
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


def test_unmodified_openai_raises_what_it_has_for_a_key_of_other_models(host: Server, tmp_path: Path) -> None:
    file = KeyFile(host.settings.model_store)
    other = file.add("of-flights", ("flights",))
    wait_until(lambda: always(host, 403, Authorization=f"Bearer {other}"))
    with (
        openai.OpenAI(base_url=f"{host.url}/v1", api_key=other, max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError) as refused,
    ):
        client.models.retrieve("linear")
    assert "this API key is not for this model" in str(refused.value.body)

    guarded = Guarded(tmp_path)
    guarded.elsewhere = {"chat": {}}
    key = guarded.file.add("of-line", ("line",))

    async def chat() -> None:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(guarded.application()))
        async with openai.AsyncOpenAI(
            base_url="http://host/v1",
            api_key=key,
            max_retries=0,
            http_client=http,  # type: ignore[arg-type]  # it takes both generations of httpx
        ) as client:
            await client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "?"}])

    with pytest.raises(openai.PermissionDeniedError, match="this API key is not for this model"):
        asyncio.run(chat())


def test_unmodified_tritonclient_is_let_in_with_a_key_and_prints_why_not(host: Server) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed: pip install -e '.[grpc]'")
    file = KeyFile(host.settings.model_store)
    key, other = file.add("triton"), file.add("of-fashion", ("fashion",))
    wait_until(lambda: always(host, 403, Authorization=f"Bearer {other}"))
    addresses = [f"127.0.0.1:{port}" for port in (host.settings.inference_port, host.settings.grpc_port)]
    report = environments.run("mlserver", "triton_keys.py", *addresses, "linear", "", "mar_wrong", other, key)
    right = pytest.approx([2, 12], abs=0.05)
    none, unknown = "this service needs an API key", "this API key is not known, has ended, or is not the only one"
    expected = "expected: Authorization: Bearer KEY, or X-API-Key: KEY"
    assert report["http"][-1] == report["grpc"][-1] == right
    for protocol, statuses in (
        ("http", ("401", "401", "403")),
        ("grpc", ("StatusCode.UNAUTHENTICATED", "StatusCode.UNAUTHENTICATED", "StatusCode.PERMISSION_DENIED")),
    ):
        texts = report[protocol][:-1]
        assert [text.partition("]")[0] for text in texts] == [f"[{status}" for status in statuses]
        assert none in texts[0]
        assert unknown in texts[1]
        assert expected in texts[0]
    assert "this API key is not for this model" in report["http"][2]
    assert "this API key is for some models alone, over HTTP" in report["grpc"][2]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the store", "of a mounted secret"])
def test_where_others_reach_the_host_nobody_is_answered_without_a_key(
    elsewhere: bool, store: Path, tmp_path: Path
) -> None:
    models = Path(shutil.copytree(store, tmp_path / "store", ignore=shutil.ignore_patterns("keys.*")))
    path = tmp_path / "secret.json" if elsewhere else None
    file = KeyFile(models, path)
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(settings_for(models, Path(folder), "0.0.0.0", "direct"), keys_file=path)
        with pytest.raises(LaunchError, match="no API key guards it"):
            background.start(settings)
        key = file.add("app")
        with serve(settings) as host:
            assert always(host, 401)
            assert always(host, 200, Authorization=f"Bearer {key}")
            file.path.unlink()
            wait_until(lambda: always(host, 401, Authorization=f"Bearer {key}"))
            assert always(host, 401)
