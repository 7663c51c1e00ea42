"""A language model on the direct host: OpenAI's API at the plain base URL, in a process whose end harms nobody."""

import gzip
import json
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.hosts.direct import background
from serving.hosts.removal import remove
from serving.readiness import ask_all
from serving.registry import Registry
from serving.supervision.supervisor import Supervisor
from tests.chaos.load import RIGHT, Question, clients
from tests.clients import environments
from tests.integration.conftest import Server, put, serve, settings_for
from tests.support.chat_archive import register_echo
from tests.support.waiting import wait_until

openai = pytest.importorskip("openai", reason="openai, of the extra dev, is not installed")

TEXT = "Grüße, 世界 😀"
HI = [{"role": "user", "content": "abcdef"}]
ENDLESS = [{"role": "user", "content": "FOREVER"}]
LINEAR = Question("/predictions/linear", {"x": 6}, {"prediction": 11.999998})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The direct host with linear and the echo, of which 1.1 waits."""
    store = put(tmp_path_factory.mktemp("language") / "store", "linear")
    for version in ("1.0", "1.1"):
        register_echo(store, "chat", 4, 12, 0.005, version=version)
    with tempfile.TemporaryDirectory() as folder, serve(settings_for(store, Path(folder), host="direct")) as running:
        yield running


@pytest.fixture(params=["/v1", "/predictions/chat/1.0/v1"])
def client(host: Server, request: pytest.FixtureRequest) -> Iterator[Any]:
    """OpenAI's client, at the plain base URL and at that of a version."""
    with openai.OpenAI(base_url=f"{host.url}{request.param}", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def said(stream: Any) -> str:
    return "".join(event.choices[0].delta.content or "" for event in stream)


def test_openais_client_converses(client: Any) -> None:
    conversation = [{"role": "user", "content": TEXT}]
    answer = client.chat.completions.create(model="chat", messages=conversation)
    assert answer.choices[0].message.content == TEXT
    assert said(client.chat.completions.create(model="chat", messages=conversation, stream=True)) == TEXT
    assert client.completions.create(model="chat", prompt="abc").choices[0].text == "abc"
    assert [model.id for model in client.models.list()] == ["chat"]
    assert client.models.retrieve("chat").id == "chat"


def test_openais_client_gets_several_answers_to_several_prompts_also_of_tokens(host: Server, client: Any) -> None:
    several = client.chat.completions.create(model="chat", messages=HI, n=3)
    assert [(choice.index, choice.message.content) for choice in several.choices] == [(i, "abcdef") for i in range(3)]
    tokens = host.client.post(f"{host.url}/tokenize", json={"model": "chat", "prompt": "Grüße"}).json()
    texts = client.completions.create(model="chat", prompt=[tokens["tokens"], [97]], n=2).choices
    assert [choice.text for choice in texts] == ["Grüße", "Grüße", "a", "a"]
    text = host.client.post(f"{host.url}/detokenize", json={"model": "chat", "tokens": tokens["tokens"]}).json()
    assert text == {"prompt": "Grüße"}
    unknown = host.client.post(f"{host.url}/tokenize", json={"model": "gpt", "prompt": "a"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert client.completions.create(model="chat@1.0", prompt="abc").choices[0].text == "abc"
    named = host.client.post(f"{host.url}/v1/completions", json={"model": "chat@9.9", "prompt": "a"})
    assert (named.status_code, named.json()["error"]["code"]) == (404, "model_not_found")
    behind = host.client.post(f"{host.url}/predictions/chat/1.0/tokenize", json={"prompt": "a"})
    assert behind.json()["tokens"] == [97]


def test_what_is_compressed_is_what_its_client_compresses_and_asks_for(host: Server) -> None:
    conversation = {"model": "chat", "messages": [{"role": "user", "content": "a" * 1500}]}
    body, url = gzip.compress(json.dumps(conversation).encode()), f"{host.url}/v1/chat/completions"
    with httpx.Client(timeout=30, trust_env=False) as plain:
        del plain.headers["accept-encoding"]
        sent = {"content-type": "application/json", "content-encoding": "gzip"}
        answers = [plain.post(url, content=body, headers=sent | asked) for asked in ({}, {"accept-encoding": "gzip"})]
        stream = plain.post(url, json=conversation | {"stream": True}, headers={"accept-encoding": "gzip"})
    assert [answer.headers.get("content-encoding") for answer in (*answers, stream)] == [None, "gzip", None]
    for answer in answers:
        assert answer.json()["choices"][0]["message"]["content"] == "a" * 1500
    assert stream.headers["content-type"].startswith("text/event-stream")


def test_a_mistake_is_told_as_openai_does(host: Server, client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=r"<= 2\.0"):
        client.chat.completions.create(model="chat", messages=HI, temperature=9)
    with (
        openai.OpenAI(base_url=f"{host.url}/v1", api_key="none", max_retries=0) as plain,
        pytest.raises(openai.NotFoundError, match="there is no language model 'gpt'"),
    ):
        plain.chat.completions.create(model="gpt", messages=HI)


def test_a_native_request_and_kserves_routes_stand_beside(host: Server) -> None:
    assert host.client.post(f"{host.url}/predictions/chat", json={"prompt": "Hello"}).json()["text"] == "Hello"
    assert host.client.post(f"{host.url}/predictions/chat/1.0", json={"prompt": "Hello"}).json()["text"] == "Hello"
    assert host.client.get(f"{host.url}/v1/models").json()["models"] == ["chat", "linear"]
    assert host.client.get(f"{host.url}/v1/models/chat").json()["ready"] is True
    assert host.client.get(f"{host.url}/v2/models/chat").json()["name"] == "chat"
    v1 = host.client.post(f"{host.url}/v1/models/linear:predict", json={"instances": [{"x": 6}]})
    assert v1.json()["predictions"] == pytest.approx([12], abs=0.05)


def test_a_generated_client_asks_what_is_described_and_reads_the_answers(host: Server) -> None:
    answers = environments.run("generated", "ask.py", host.url)
    assert {answer["status"] for answer in answers.values()} == {200}
    assert answers["/predictions/linear"]["answer"]["prediction"] == pytest.approx(12, abs=0.05)
    assert answers["/v1/models/linear:predict"]["answer"]["predictions"] == pytest.approx([12], abs=0.05)
    assert answers["/v2/models/linear/infer"]["answer"]["outputs"][0]["data"] == pytest.approx([12], abs=0.05)
    assert answers["/predictions/chat"]["answer"]["text"] == "Hello"
    for base in ("/v1", "/predictions/chat/1.0/v1"):
        chat, completion = (answers[f"{base}/{path}"]["answer"] for path in ("chat/completions", "completions"))
        assert chat["choices"][0]["message"]["content"] == completion["choices"][0]["text"] == "Hello"
        (message,) = answers[f"{base}/responses"]["answer"]["output"]
        assert message["content"][0]["text"] == "Hello"
    index = host.client.get(f"{host.url}/v2/repository/index").json()
    assert [(entry["name"], entry["version"], entry["state"]) for entry in index] == [
        ("chat", "1.0", "READY"),
        ("linear", host.contract("linear").version, "READY"),
    ]


def test_many_conversations_at_once_get_each_their_own_answer(host: Server) -> None:
    with (
        openai.OpenAI(base_url=f"{host.url}/v1", api_key="none", max_retries=0, timeout=60) as client,
        ThreadPoolExecutor(12) as threads,
    ):

        def ask(i: int) -> str:
            messages = [{"role": "user", "content": f"number {i}"}]
            return said(client.chat.completions.create(model="chat", messages=messages, stream=True))

        assert list(threads.map(ask, range(24))) == [f"number {i}" for i in range(24)]


def test_a_client_that_leaves_frees_its_place(host: Server) -> None:
    body = {"model": "chat", "messages": ENDLESS, "stream": True, "max_tokens": 3000}
    for _ in range(8):  # twice as many as the engine has places
        with httpx.stream("POST", f"{host.url}/v1/chat/completions", json=body, timeout=30) as stream:
            next(stream.iter_raw())
    with openai.OpenAI(base_url=f"{host.url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        answer = client.chat.completions.create(model="chat", messages=HI)
    assert answer.choices[0].message.content == "abcdef"


def test_a_promotion_breaks_no_stream(host: Server) -> None:
    with openai.OpenAI(base_url=f"{host.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        long = [{"role": "user", "content": "x" * 900}]
        stream = client.chat.completions.create(model="chat", messages=long, stream=True)
        begun = next(stream).choices[0].delta.content or ""
        promoting = threading.Thread(target=background.rollout(host.settings).promote, args=("chat", "1.1"))
        promoting.start()
        assert begun + said(stream) == "x" * 900
        promoting.join()
    served = host.client.get(f"{host.url}/v2/models/chat").json()["versions"]
    assert served == [Registry(host.settings.model_store).champion("chat").number] == ["1.1"]
    background.rollout(host.settings).promote("chat", "1.0")


def test_a_model_that_is_registered_meanwhile_is_served_and_a_broken_one_harms_nobody(host: Server) -> None:
    store = host.settings.model_store

    def answers() -> bool:
        assert host.client.get(f"{host.url}/v2/health/ready").status_code == 200
        return host.client.post(f"{host.url}/predictions/late", json={"prompt": "Hi"}).status_code == 200

    with clients(host.url, LINEAR) as outcomes:
        register_echo(store, "late", 1, 4, 0.005)
        wait_until(answers, timeout=60)
        assert "late" in host.client.get(f"{host.url}/v1/models").json()["models"]
        register_echo(store, "broken", 1, 4, 0.005)
        (store / "broken-1.0.mar").write_bytes(b"damaged")
        wait_until(lambda: "broken" in background.board(host.settings).faults(1), timeout=30)
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 50)
        assert host.client.post(f"{host.url}/predictions/late", json={"prompt": "Hi"}).json()["text"] == "Hi"
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples
    with Registry(store).change() as models:
        del models["late"], models["broken"]
    wait_until(lambda: host.client.get(f"{host.url}/v2/health/ready").status_code == 200, timeout=30)


def test_its_crash_ends_its_own_answers_and_nothing_else_and_it_comes_back(host: Server) -> None:
    state = Supervisor(host.settings).state("direct-model-chat")
    assert state is not None
    body = {"model": "chat", "messages": ENDLESS, "stream": True, "max_tokens": 3000}
    with clients(host.url, LINEAR) as outcomes:
        with httpx.stream("POST", f"{host.url}/v1/chat/completions", json=body, timeout=30) as stream:
            parts = stream.iter_raw()
            next(parts)
            psutil.Process(state.pid).kill()
            with pytest.raises(httpx.TransportError):
                list(parts)
        away = host.client.post(f"{host.url}/predictions/chat", json={"prompt": "Hello"})
        assert away.status_code in (200, 503)
        wait_until(lambda: host.client.post(f"{host.url}/predictions/chat", json={"prompt": "a"}).status_code == 200)
        wait_until(lambda: outcomes.counts[RIGHT] > 50)
    assert set(outcomes.counts) == {RIGHT}, outcomes.examples


def test_one_that_is_removed_is_gone_with_its_process_and_harms_no_other(host: Server) -> None:
    """The last test of this module."""
    part = background.language_part("chat")
    assert part in Supervisor(host.settings).parts()
    remove(host.settings, background, "chat", None, say=lambda text: None)
    assert part not in Supervisor(host.settings).parts()
    conversation = {"model": "chat", "messages": HI}
    assert host.client.post(f"{host.url}/v1/chat/completions", json=conversation).status_code == 404
    assert not list(host.settings.model_store.glob("chat-*"))
    assert host.client.post(f"{host.url}/predictions/linear", json={"x": 6}).status_code == 200
    assert [model.name for model in ask_all(Registry(host.settings.model_store), host.url) if not model.ready] == []
