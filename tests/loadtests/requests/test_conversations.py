"""Requests drawn for a language model: the real handler answers them as the load test expects, and faults are found."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from handlers.language.handler import ChatHandler
from handlers.language.template import ChatTemplate
from handlers.message import NEXT, STATUS, Request
from loadtests.requests import conversations
from loadtests.requests.chat_answers import END, ChatStream, complaint
from loadtests.requests.conversations import ChatRequest
from tests.support.chat_archive import CONTEXT, contract, echoed
from tests.support.handlers.echo_engine import SMOLLM2, EchoEngine

MODEL = contract("chat", echoed("Hello"))
STREAMED = [
    one for one in conversations.draw_requests(MODEL, np.random.default_rng(0), 80) if one.kind in ("stream", "counted")
]


def respond(asked: ChatRequest) -> tuple[int, bytes]:
    """Status and body, as a handler of the echo gives them when it is asked until it has said all."""
    engine = EchoEngine(slots=1, context=CONTEXT)
    handler = ChatHandler(MODEL, engine, ChatTemplate(SMOLLM2, engine.tokenize))
    headers = {name.lower(): value for name, value in asked.headers.items()}
    request = Request(asked.body, headers | {"url_path": asked.path}, id="a")
    parts = handler.handle([request])
    while parts[-1] is None or parts[-1].headers.get(NEXT) == "true":
        parts += handler.handle([request])
    told = [part for part in parts if part]
    return told[0].status, b"".join(part.body for part in told)


def read(asked: ChatRequest, body: bytes) -> ChatStream:
    """A stream whose events come a second after each other."""
    stream = ChatStream(asked)
    for second, event in enumerate(body.split(END)[:-1]):
        stream.add(event + END, float(second))
    return stream


def test_every_stream_is_found_right_and_its_tokens_are_counted() -> None:
    assert len({one.body for one in STREAMED}) > 40
    for asked in STREAMED:
        status, body = respond(asked)
        stream = read(asked, body)
        assert (status, stream.end()) == (200, ""), asked
        assert 0 < stream.tokens <= asked.max_tokens
        assert stream.first == 0
        assert stream.rate() == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("asked", conversations.invalid(), ids=lambda asked: f"{asked.code} {asked.body[:30]!r}")
def test_every_fault_gets_its_status_and_its_code_in_openais_form(asked: ChatRequest) -> None:
    status, body = respond(asked)
    assert STATUS[asked.code] == asked.status
    assert complaint(MODEL, asked, status, body) == ""
    assert complaint(MODEL, asked, 200, body) == f"status 200 instead of {asked.status}"
    assert complaint(MODEL, asked, status, b'{"error": {"code": "empty"}}') == "the error is not in OpenAI's form"
    assert complaint(MODEL, asked, status, body.replace(asked.code.encode(), b"x")).startswith("error code x instead")


def test_the_example_gets_the_contracts_answer() -> None:
    asked = conversations.example(MODEL)
    status, body = respond(asked)
    assert complaint(MODEL, asked, status, body) == ""
    wrong = body.replace(b"Hello", b"Hallo")
    assert complaint(MODEL, asked, status, wrong) == "the contract's example has another answer"


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "the stream ended without [DONE]": lambda body: body.replace(b"data: [DONE]\n\n", b""),
    "something came after [DONE]": lambda body: body + b"data: {}\n\n",
    "an event is no JSON": lambda body: body.replace(b"data: {", b"data: {{", 1),
    "an event is no line of data with an empty line behind it": lambda body: body.replace(b"data: {", b"data {", 1),
    "an event is no part of an answer": lambda body: body.replace(b".chunk", b"", 1),
    "the first part does not say whose turn it is": lambda body: body.replace(b"assistant", b"user"),
    "there is no finish_reason": lambda body: body.replace(b'"length"', b"null"),
    "there is no usage": lambda body: _without(body, b'"choices":[],'),
    "usage has no numbers of tokens": lambda body: body.replace(b"total_tokens", b"tokens"),
    "usage does not add up": lambda body: body.replace(b'"total_tokens":', b'"total_tokens":1'),
    "usage has fewer tokens than there were parts": lambda body: _with_usage(body, 5, 2),
    "usage does not fit max_tokens and finish_reason": lambda body: _with_usage(body, 5, 99),
    "usage has other tokens than there were": lambda body: _without(body, b'"ng "'),
    "the stream ended with an error": lambda body: body.replace(b'{"id', b'{"error":{},"id', 1),
    "something came after finish_reason": lambda body: body.replace(
        b'"finish_reason":null', b'"finish_reason":"stop"', 1
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_stream_is_found(fault: str) -> None:
    text = (
        b'{"messages":[{"role":"user","content":"something long enough"}],"max_tokens":5,"stream":true,"logprobs":true,'
    )
    asked = ChatRequest("counted", conversations.CHAT, text + b'"stream_options":{"include_usage":true}}', 5)
    _, body = respond(asked)
    assert read(asked, body).end() == ""
    assert read(asked, FAULTS[fault](body)).end() == fault


def test_a_pool_has_every_kind_and_the_same_seed_draws_the_same() -> None:
    first, second = (conversations.draw_requests(MODEL, np.random.default_rng(1), 500) for _ in range(2))
    assert first == second
    assert Counter(one.kind for one in first) == {
        "stream": 415,
        "counted": 25,
        "left": 25,
        "invalid": 25,
        "example": 10,
    }


def test_a_request_is_sent_to_the_route_with_the_version() -> None:
    assert conversations.example(MODEL).url(MODEL) == "/predictions/chat/1.0"
    assert STREAMED[0].url(MODEL) == "/predictions/chat/1.0/v1/chat/completions"


def _without(body: bytes, words: bytes) -> bytes:
    return b"".join(event + END for event in body.split(END)[:-1] if words not in event)


def _with_usage(body: bytes, parts: int, tokens: int) -> bytes:
    before, prompt = body.partition(b'"prompt_tokens":')[::2]
    count = int(prompt.partition(b",")[0])
    told = f'"completion_tokens":{parts},"total_tokens":{count + parts}'.encode()
    return body.replace(told, f'"completion_tokens":{tokens},"total_tokens":{count + tokens}'.encode())
