"""OpenAI's own client on URLs without a version: by the query, and through nginx; versions are promoted meanwhile."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.hosts.host import TIMEOUT
from serving.hosts.torchserve.management import Management
from serving.hosts.torchserve.rollout import connect
from serving.ports import free_ports
from serving.registry import Registry
from serving.settings import ROOT
from tests.integration.conftest import Server, serve, settings_for
from tests.support.chat_archive import register_echo
from tests.support.waiting import wait_until

openai = pytest.importorskip("openai", reason="openai, of the extra dev, is not installed")

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
SLOTS, QUEUE, SPARE = 2, 2, 8
HI = [{"role": "user", "content": "abcdef"}]
LONG = [{"role": "user", "content": "x" * 900}]  # 300 tokens
ENDLESS = [{"role": "user", "content": "FOREVER"}]


@pytest.fixture(scope="module")
def chat() -> Iterator[Server]:
    """TorchServe with version 1.0 of the echo; 1.1 lies beside it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        for version in ("1.0", "1.1"):
            register_echo(store, "chat", SLOTS, QUEUE + SPARE, 0.02, queue=QUEUE, version=version)
        with serve(settings_for(store, Path(folder) / "run")) as running:
            yield running


@pytest.fixture(scope="module")
def gateway(chat: Server) -> Iterator[str]:
    """The URL of an nginx that runs the file which the docs tell of, on ports of its own."""
    if not NGINX:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    port = free_ports(1)[0]
    with tempfile.TemporaryDirectory() as folder:
        text = (ROOT / "deploy/gateway/nginx.conf").read_text()
        text = text.replace("127.0.0.1:8080", chat.url.removeprefix("http://")).replace(":8000", f":{port}")
        (Path(folder) / "nginx.conf").write_text(text.replace("/tmp/marloop-gateway", f"{folder}/gateway"))
        command = [NGINX, "-p", folder, "-c", f"{folder}/nginx.conf", "-g", "daemon off;"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/v1/models"))
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(params=["query", "gateway"])
def client(chat: Server, request: pytest.FixtureRequest) -> Iterator[Any]:
    """OpenAI's client with a base URL without a version."""
    query = f"{chat.url}/models/chat/invoke?path=/v1"
    base = query if request.param == "query" else request.getfixturevalue("gateway")
    with openai.OpenAI(base_url=base, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_a_conversation_is_answered_without_a_version(client: Any) -> None:
    answer = client.chat.completions.create(model="chat", messages=HI)
    assert answer.choices[0].message.content == "abcdef"
    parts = client.chat.completions.create(model="chat", messages=HI, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "abcdef"
    assert client.responses.create(model="chat", input="abc").output_text == "abc"
    assert client.completions.create(model="chat", prompt="abc").choices[0].text == "abc"
    assert [model.id for model in client.models.list()] == ["chat"]
    assert client.models.retrieve("chat").id == "chat"


def test_the_clients_own_errors_are_raised_without_a_version(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="chat", messages=HI, temperature=3)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError, match="there is no"):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="chat", input="x")


def test_the_first_token_comes_before_the_rest_is_made(client: Any) -> None:
    with client.chat.completions.create(model="chat", messages=ENDLESS, stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.content == "on "


def test_more_requests_than_wait_are_told_in_the_apis_form_when_to_come_again(chat: Server, client: Any) -> None:
    stop = threading.Event()

    def endless(_: int) -> None:
        with client.chat.completions.create(model="chat", messages=ENDLESS, stream=True) as stream:
            for _ in stream:
                if stop.is_set():
                    return

    with ThreadPoolExecutor(SLOTS + QUEUE) as threads:
        held = list(map(threads.submit, [endless] * (SLOTS + QUEUE), range(SLOTS + QUEUE)))
        try:
            models = f"{chat.url}/models/chat/invoke?path=/v1/models"
            wait_until(lambda: httpx.get(models).headers["X-Running-Requests"] == str(SLOTS + QUEUE))
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(model="chat", messages=HI)
        finally:
            stop.set()
            for one in held[:SLOTS]:
                one.result(30)
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "1"
    assert (caught.value.code, caught.value.type) == ("overloaded", "server_error")


def test_a_promotion_breaks_no_stream_and_the_next_question_goes_to_the_champion(chat: Server, gateway: str) -> None:
    query = f"{chat.url}/models/chat/invoke?path=/v1"
    clients = [openai.OpenAI(base_url=base, api_key="none", max_retries=0, timeout=120) for base in (gateway, query)]
    streams = [one.chat.completions.create(model="chat", messages=LONG, stream=True) for one in clients]
    begun = [next(iter(stream)).choices[0].delta.content for stream in streams]
    with ThreadPoolExecutor(3) as threads:
        promotion = threads.submit(promote, chat)
        rest = list(threads.map(lambda stream: "".join(p.choices[0].delta.content or "" for p in stream), streams))
        promotion.result(120)
    assert [first + more for first, more in zip(begun, rest, strict=True)] == ["x" * 900] * 2
    assert Registry(chat.settings.model_store).champions()["chat"][0] == "1.1"
    for one in clients:
        assert one.chat.completions.create(model="chat", messages=HI).choices[0].message.content == "abcdef"
        one.close()
    assert httpx.post(f"{chat.url}/predictions/chat/1.0", json={"prompt": "a"}).status_code == 404


def promote(chat: Server) -> None:
    """Make 1.1 champion, as the command does."""
    with httpx.Client(timeout=TIMEOUT) as client:
        management = Management(chat.settings.management_address, client)
        connect(Registry(chat.settings.model_store), management, chat.url, client).promote("chat", "1.1")
