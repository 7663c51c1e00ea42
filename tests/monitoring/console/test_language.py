"""A language model in the console: its perplexity and speed, its answers, and nothing that only a truth could tell."""

import json
from pathlib import Path

import httpx
import pytest

from tests.support.chat_archive import contract, echoed
from tests.support.monitoring.console_worlds import BY_HTMX, TORCHSERVE, World, flights
from tests.support.training.pages import Element, Page

CHAT = contract("chat", echoed("Hello"))
EVALUATION = {
    "primary": "perplexity",
    "rows": 12345,
    "metrics": {"perplexity": 21.5},
    "baselines": {"float32": {"perplexity": 21.4}},
    "speed": {
        "tokens_per_second": {"1": 92.25, "8": 188.0},
        "first_token_seconds": 0.3,
        "prompt_tokens": 128,
        "generated_tokens": 64,
        "machine": "a CPU",
        "engine": "llama.cpp",
    },
}
ANSWER = {"text": "<b>Paris</b>\nand", "finish_reason": "length"}
COUNTS = {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The model beside another, after a look at both."""
    world = World(tmp_path)
    world.add(flights())
    world.add(CHAT, evaluation=EVALUATION)
    world.live.run()
    return world


def page(world: World, path: str) -> Page:
    response = world.client.get(path)
    assert response.status_code == 200, response.text
    return Page(response.text)


def test_the_first_page_lists_it_with_its_perplexity_on_so_many_tokens(world: World) -> None:
    words = [one.words() for one in page(world, "/").all("tr")]
    (chat,) = [one for one in words if one.startswith("chat")]
    assert "chat generation 1.0" in chat
    assert "perplexity 21.5 12,345 tokens – not told of a language model 1.0 champion" in chat
    (air,) = [one for one in words if one.startswith("air")]
    assert "features no verdict" in air


def test_its_page_has_its_speeds_and_says_why_there_is_no_quality_and_what_retrains_it(
    world: World,
) -> None:
    found = page(world, "/console/models/chat")
    assert "21.5 12,345 tokens" in found.section("versions").words()
    assert "version 1 stream 8 streams 1.0 92.25 188" in found.section("speed").words()
    words = found.root.words()
    assert "chat is a language model: no truth comes for its answers" in words
    assert not {"quality", "drift"} & {one.attributes.get("id") for one in found.every()}
    assert "approved conversations retrain it" in words
    other = page(world, "/console/models/air")
    learns = {"on its approved conversations?": found, "on its labelled rows?": other}
    for what, shown in learns.items():
        (form,) = [one for one in shown.every() if str(one.attributes.get("hx-post")).endswith("/retrain")]
        assert what in str(form.attributes["hx-confirm"])
    assert other.section("quality").words()


def test_without_a_measurement_its_page_says_so(world: World) -> None:
    world.add(contract("bare", echoed("Hello")), evaluation={})
    assert "No speed was measured" in page(world, "/console/models/bare").section("speed").words()


def test_a_prompt_is_sent_as_typed_and_text_time_and_tokens_come_back(world: World) -> None:
    world.answer = httpx.Response(200, json=ANSWER | {"usage": COUNTS})
    typed = page(world, "/console/models/chat").section("try")
    assert "Hello" in typed.words()
    answered = world.client.post("/console/models/chat/try", data={"prompt": "Grüße,\n 世界"}, headers=BY_HTMX)
    assert answered.status_code == 200
    (sent,) = world.sent
    assert str(sent.url) == f"{TORCHSERVE}/predictions/chat/1.0"
    assert json.loads(sent.content) == {"prompt": "Grüße,\n 世界", "max_tokens": 64, "temperature": 0}
    words = Page(answered.text).root.words()
    assert Element.words(Page(answered.text).all("pre")[0]) == "<b>Paris</b> and"
    assert "8 tokens," in words
    assert "it would go on" in words
    assert "chat 1.0 answered in" in words
    assert "/feedback" not in answered.text


def test_what_it_refuses_is_a_sentence(world: World) -> None:
    error = {"code": "empty", "message": "the prompt is empty", "path": "$.prompt", "expected": "a text"}
    world.answer = httpx.Response(400, json={"error": error})
    answered = world.client.post("/console/models/chat/try", data={"prompt": ""}, headers=BY_HTMX)
    assert answered.status_code == 422
    assert "The model refused $.prompt: the prompt is empty; it must be a text." in answered.text
