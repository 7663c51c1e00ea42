"""A language model through a real TorchServe, by OpenAI's own client; the model is an echo, so it needs no weights."""

import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Server, serve, settings_for
from tests.support.chat_archive import CONTEXT, register_echo
from tests.support.waiting import wait_until

openai = pytest.importorskip("openai", reason="openai, of the extra dev, is not installed")

SLOTS, ROOM, QUEUE = 4, 4, 100
TEXT = "Grüße, 世界 😀 здравствуй"
MODELS = ("chat", "plain")  # the second leaves TorchServe's socket as it is


@pytest.fixture(scope="module")
def chat() -> Iterator[Server]:
    """TorchServe with the echo under two names; no request of any test may have ended a worker."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        register_echo(store, "chat", SLOTS, ROOM, 0.01, jobQueueSize=QUEUE)
        register_echo(store, "plain", SLOTS, ROOM, 0.01, jobQueueSize=QUEUE, wire=False)
        with serve(settings_for(store, Path(folder) / "run")) as running:
            pids = running.worker_pids()
            yield running
            assert running.worker_pids() == pids


@pytest.fixture(params=MODELS)
def base(chat: Server, request: pytest.FixtureRequest) -> str:
    """The URL that a client of OpenAI is given."""
    return f"{chat.url}/predictions/{request.param}/1.0/v1"


@pytest.fixture
def client(base: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=base, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Say it again."}, {"role": "user", "content": text}]


def whole(base: str, text: str) -> httpx.Response:
    return httpx.post(f"{base}/chat/completions", json={"messages": said(text)}, timeout=120)


def gauge(server: Server, name: str) -> Callable[[float], bool]:
    """Whether a metric of the model ``chat`` is so large."""
    wanted = f'{name}{{model="chat",version="1.0"}} '

    def is_now(value: float) -> bool:
        text = httpx.get(f"http://127.0.0.1:{server.settings.exporter_port}/metrics").text
        return any(float(line.removeprefix(wanted)) == value for line in text.splitlines() if line.startswith(wanted))

    return is_now


def test_openais_client_gets_a_conversation_answered(client: Any) -> None:
    answer = client.chat.completions.create(model="chat", messages=said(TEXT), temperature=0)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = client.chat.completions.create(model="chat", messages=[answer.choices[0].message, *said("two")])
    assert again.choices[0].message.content == "two"


def test_openais_client_gets_a_stream_of_whole_characters(client: Any) -> None:
    options = {"include_usage": True}
    with client.chat.completions.create(
        model="chat", messages=said(TEXT), stream=True, stream_options=options
    ) as stream:
        *parts, last = stream
    assert "".join(part.choices[0].delta.content or "" for part in parts) == TEXT
    assert len(parts) > 5
    assert parts[-1].choices[0].finish_reason == "stop"
    assert last.usage.completion_tokens == -(-len(TEXT.encode()) // 3)


def test_openais_client_completes_a_text_with_log_probabilities_and_a_stop(client: Any) -> None:
    answer = client.completions.create(model="chat", prompt="abcdefSTOPghi", stop=["STOP"], logprobs=1)
    assert answer.choices[0].text == "abcdef"
    assert answer.choices[0].logprobs.tokens == ["abc", "def"]


def test_openais_client_lists_the_model(client: Any, base: str) -> None:
    name = base.split("/")[-3]
    # The archive of both has the contract of its own name.
    assert [model.id for model in client.models.list()] == [name]
    assert client.models.retrieve(name).owned_by == "marloop"


def test_openais_client_raises_its_own_errors(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="chat", messages=said("x"), temperature=3)
    assert (caught.value.param, caught.value.code) == ("temperature", "out_of_range")
    form: Any = {"type": "json_schema", "json_schema": {"name": "x"}}
    with pytest.raises(openai.BadRequestError, match="json_schema"):
        client.chat.completions.create(model="chat", messages=said("x"), response_format=form)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="chat", input="x")
    with pytest.raises(openai.APIError, match="the engine failed; the log has the reason"):
        list(client.chat.completions.create(model="chat", messages=said("abcFAIL"), stream=True))
    with pytest.raises(openai.InternalServerError, match="the engine failed; the log has the reason"):
        client.chat.completions.create(model="chat", messages=said("FAIL"), stream=True)


def test_the_native_form_is_answered_without_a_version_too(chat: Server) -> None:
    for path in ("chat", "chat/1.0"):
        answer = chat.client.post(f"{chat.url}/predictions/{path}", json={"prompt": "abc", "max_tokens": 1})
        assert (answer.json()["text"], answer.json()["finish_reason"]) == ("abc", "length")


def test_a_connection_is_used_again_after_a_stream(base: str) -> None:
    with httpx.Client(timeout=60) as client:
        for _ in range(3):
            body = {"messages": said("abc"), "stream": True}
            with client.stream("POST", f"{base}/chat/completions", json=body) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert answer.read().endswith(b"data: [DONE]\n\n")


def test_the_first_token_comes_before_the_rest_is_made(base: str) -> None:
    body = {"messages": said("FOREVER"), "stream": True}
    with httpx.Client(timeout=60) as client, client.stream("POST", f"{base}/chat/completions", json=body) as answer:
        first = next(answer.iter_lines())
    assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["content"] == "on "


def test_requests_that_join_and_leave_get_each_the_answer_that_they_get_alone(base: str) -> None:
    texts = [f"{number}. {TEXT}"[: 8 + 4 * (number % 5)] for number in range(10)]
    alone = [whole(base, text).json()["choices"] for text in texts]
    assert [one[0]["message"]["content"] for one in alone] == texts
    with ThreadPoolExecutor(len(texts)) as threads:
        together = list(threads.map(lambda text: whole(base, text).json()["choices"], texts))
    assert together == alone


def test_a_stream_whose_client_goes_away_frees_its_slot_for_one_that_waits(base: str) -> None:
    endless = {"messages": said("FOREVER"), "stream": True}
    with ExitStack() as stack, ThreadPoolExecutor(1) as thread:
        clients = [stack.enter_context(httpx.Client(timeout=60)) for _ in range(SLOTS)]
        streams = [stack.enter_context(one.stream("POST", f"{base}/chat/completions", json=endless)) for one in clients]
        lines = [stream.iter_lines() for stream in streams]
        assert all(next(line) for line in lines)
        waiting = thread.submit(whole, base, "abc")
        assert all(next(line) is not None for _ in range(20) for line in lines)  # all slots go on
        assert not waiting.done()
        streams[0].close()
        assert waiting.result(20).json()["choices"][0]["message"]["content"] == "abc"


def test_whole_answers_whose_clients_gave_up_hold_no_slots(chat: Server) -> None:
    base = f"{chat.url}/predictions/chat/1.0/v1"
    endless = {"messages": said("FOREVER")}

    def give_up() -> None:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{base}/chat/completions", json=endless, timeout=0.5)

    threads = [threading.Thread(target=give_up) for _ in range(SLOTS)]
    for thread in threads:
        thread.start()
    running = gauge(chat, "llm_running_requests")
    wait_until(lambda: running(SLOTS), poll=0.02)
    for thread in threads:
        thread.join()
    wait_until(lambda: running(0), timeout=20)  # on their own they would go on for twice as long
    assert gauge(chat, "llm_kv_cache_usage_ratio")(0)
    assert whole(base, "abc").status_code == 200


BAD: list[tuple[str, bytes, str, int]] = [
    ("chat/completions", b'{"messages": []}', "application/json", 400),
    ("chat/completions", b"", "application/json", 400),
    ("chat/completions", b'{"messages": [{"role": "user", "content": "\xff"}]}', "application/json", 400),
    ("chat/completions", b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 999999}', "", 400),
    ("chat/completions", json.dumps({"messages": said("x" * CONTEXT)}).encode(), "application/json", 400),
    ("chat/completions", json.dumps({"messages": said("x" * 3_000_000)}).encode(), "application/json", 400),
    ("chat/completions", json.dumps({"messages": said("x")}).encode(), "application/x-www-form-urlencoded", 415),
    ("chat/completions", json.dumps({"messages": said("x")}).encode(), "text/plain", 415),
    ("completions", b'{"prompt": ""}', "application/json", 400),
    ("completions", b'{"prompt": "x", "n": 0}', "application/json", 400),
    ("nowhere", b"{}", "application/json", 404),
]


@pytest.mark.parametrize(("path", "body", "content_type", "status"), BAD)
def test_bad_requests_get_a_4xx_in_openais_form(
    base: str, path: str, body: bytes, content_type: str, status: int
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = httpx.post(f"{base}/{path}", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_of_200_clients_at_once_each_is_answered_or_told_to_come_again(base: str) -> None:
    with ThreadPoolExecutor(200) as threads:
        answers = list(threads.map(lambda number: (number, whole(base, f"number {number}")), range(200)))
    statuses = Counter(answer.status_code for _, answer in answers)
    assert statuses.keys() <= {200, 503}
    assert statuses[200] >= QUEUE
    for number, answer in answers:
        if answer.status_code == 200:
            assert answer.json()["choices"][0]["message"]["content"] == f"number {number}"
    assert whole(base, "afterwards").status_code == 200


def test_its_metrics_are_with_those_of_every_model(chat: Server) -> None:
    whole(f"{chat.url}/predictions/chat/1.0/v1", "abc")
    text = httpx.get(f"http://127.0.0.1:{chat.settings.exporter_port}/metrics").text
    found = {line.partition("{")[0] for line in text.splitlines() if 'model="chat"' in line}
    assert {
        "llm_time_to_first_token_seconds_count",
        "llm_time_per_output_token_seconds_count",
        "llm_prompt_tokens_total",
        "llm_generated_tokens_total",
        "llm_draft_tokens_total",
        "llm_accepted_draft_tokens_total",
        "llm_running_requests",
        "llm_kv_cache_usage_ratio",
        "model_requests_total",
        "model_request_duration_seconds_count",
        "model_info",
    } <= found
    assert 'protocol="openai"' in text
