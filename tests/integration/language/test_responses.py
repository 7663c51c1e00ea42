"""The Responses API on both hosts, asked by clients that others write, each as it is; the model is an echo."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest

from handlers.language.structured.tools import CLOSE, MIDDLE, OPEN
from serving.settings import HostName
from tests.clients.environments import run
from tests.integration.conftest import serve, settings_for
from tests.support.chat_archive import register_echo

openai = pytest.importorskip("openai", reason="openai, of the extra dev, is not installed")

TEXT = "Grüße, 世界 😀"
HOSTS: tuple[HostName, ...] = ("torchserve", "direct")
VERSION, QUERY, PLAIN = "/predictions/chat/1.0/v1", "/models/chat/invoke?path=/v1", "/v1"
BASES = [("torchserve", VERSION), ("torchserve", QUERY), ("direct", PLAIN), ("direct", VERSION)]
CALL = OPEN + "get_weather" + MIDDLE + '{"city": "Oslo", "days": 2}' + CLOSE
ANIMAL = '{"name": "cat", "legs": 4}'


class Weather(pydantic.BaseModel):
    """The arguments of a tool."""

    city: str
    days: int


class Animal(pydantic.BaseModel):
    """What an answer is parsed to."""

    name: str
    legs: int


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Each host with the echo."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        served: dict[str, str] = {}
        for host in HOSTS:
            store = Path(folder) / host / "store"
            register_echo(store, "chat", 4, 12, 0.005)
            server = running.enter_context(serve(settings_for(store, Path(folder) / host / "run", host=host)))
            served[host] = server.url
        yield served


@pytest.fixture(params=BASES, ids=str)
def base(urls: dict[str, str], request: pytest.FixtureRequest) -> str:
    host, path = request.param
    return f"{urls[host]}{path}"


@pytest.fixture(params=[BASES[0], BASES[2]], ids=str)
def plain_base(urls: dict[str, str], request: pytest.FixtureRequest) -> str:
    """A URL to whose path a client may append."""
    host, path = request.param
    return f"{urls[host]}{path}"


@pytest.fixture
def client(base: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=base, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_openais_client_gets_a_response_and_sends_it_back(client: Any) -> None:
    response = client.responses.create(model="chat", input=TEXT, instructions="Say it again.", store=True)
    assert (response.output_text, response.status, response.store) == (TEXT, "completed", False)
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    turns = [{"role": "user", "content": TEXT}, *response.output, {"role": "user", "content": "two"}]
    again = client.responses.create(model="chat", input=turns)
    assert again.output_text == "two"
    cut = client.responses.create(model="chat", input="abcdef", max_output_tokens=1, top_logprobs=1)
    assert (cut.output_text, cut.status, cut.incomplete_details.reason) == ("abc", "incomplete", "max_output_tokens")
    assert [token.token for token in cut.output[0].content[0].logprobs] == ["abc"]


def test_openais_client_iterates_over_typed_events(client: Any) -> None:
    events = list(client.responses.create(model="chat", input=TEXT, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == TEXT
    with client.responses.stream(model="chat", input=TEXT) as stream:
        assert [event.snapshot for event in stream if event.type == "response.output_text.delta"][-1] == TEXT
        assert stream.get_final_response().output_text == TEXT


def test_openais_client_parses_an_object_of_a_class(client: Any) -> None:
    response = client.responses.parse(model="chat", input=ANIMAL, text_format=Animal)
    assert response.output_parsed == Animal(name="cat", legs=4)
    with client.responses.stream(model="chat", input=ANIMAL, text_format=Animal) as stream:
        assert stream.get_final_response().output_parsed == Animal(name="cat", legs=4)
    again = client.responses.create(model="chat", input=[*response.output, {"role": "user", "content": "two"}])
    assert again.output_text == "two"


def test_openais_client_gets_calls_and_sends_what_they_returned(client: Any) -> None:
    tools = [openai.pydantic_function_tool(Weather, name="get_weather")]
    (call,) = client.responses.parse(model="chat", input=CALL, tools=tools, tool_choice="required").output
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert call.parsed_arguments == Weather(city="Oslo", days=2)
    returned = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    turns = [{"role": "user", "content": "How is the weather?"}, call, returned]
    assert client.responses.create(model="chat", input=turns).output_text == "<tool_response>\nrain\n</tool_response>"
    with client.responses.stream(model="chat", input=CALL, tools=tools) as stream:
        parts = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (streamed,) = stream.get_final_response().output
    assert "".join(parts) == streamed.arguments == call.arguments
    assert len(parts) > 1


def test_openais_client_raises_its_own_errors(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="nothing is stored here") as caught:
        client.responses.create(model="chat", input="Hi", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="chat", input="x" * 20000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
    with pytest.raises(openai.InternalServerError, match="the engine failed"):
        client.responses.create(model="chat", input="FAIL", stream=True)
    last = list(client.responses.create(model="chat", input="abcFAIL", stream=True))[-1]
    assert (last.type, last.response.error.code) == ("response.failed", "server_error")


def test_what_was_not_stored_cannot_be_fetched(plain_base: str) -> None:
    answer = httpx.get(f"{plain_base}/responses/resp_1")
    assert answer.status_code in (404, 405)


def test_langchain_converses_by_responses(base: str) -> None:
    answer = run("langchain", "responses.py", base, TEXT, CALL, ANIMAL)
    assert (answer["answer"], answer["streamed"], answer["again"]) == (TEXT, TEXT, "two")
    assert answer["calls"] == answer["streamed_calls"] == [{"city": "Oslo", "days": 2}]
    assert answer["after"] == "<tool_response>\n2 days of rain in Oslo\n</tool_response>"
    assert answer["animal"] == json.loads(ANIMAL)
    assert "ContextOverflowError" in answer["overflow"].split()


def test_openais_client_for_javascript_converses_by_responses(plain_base: str) -> None:
    answer = run("javascript", "responses.mjs", plain_base, TEXT, CALL)
    assert (answer["answer"], answer["streamed"], answer["helped"], answer["again"]) == (TEXT, TEXT, TEXT, "two")
    assert answer["called"] == {"name": "get_weather", "arguments": '{"city": "Oslo", "days": 2}'}
    assert answer["stored"] == {"kind": "BadRequestError", "param": "previous_response_id"}


def test_the_ai_sdk_converses_by_its_openai_provider(plain_base: str) -> None:
    answer = run("aisdk", "responses.mjs", plain_base, TEXT, CALL, ANIMAL)
    assert (answer["text"], answer["streamed"], answer["object"]) == (TEXT, TEXT, json.loads(ANIMAL))
    assert answer["inputs"] == answer["streamedInputs"] == [{"city": "Oslo", "days": 2}]
    assert answer["results"] == ["2 days of rain in Oslo"]
    assert answer["after"] == "<tool_response>\n2 days of rain in Oslo\n</tool_response>"
    assert answer["reason"] == "length"
