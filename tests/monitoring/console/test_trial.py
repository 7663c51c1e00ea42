"""A model is asked what was typed into its form, and nothing else is."""

import json
from typing import Any
from urllib.parse import urlencode

import httpx
import httpx2
import pytest

from handlers.contract.example import opaque_example
from monitoring.console.trial import FORM, LARGEST, Trial
from tests.support.handlers.models import opaque
from tests.support.monitoring.console_worlds import BY_HTMX, TORCHSERVE, World, clothes, png, registered

TYPED = {"distance": "1.5", "carrier": "UA"}
MOOD = {"text": "a & b\r\nc", "polite": "false", "weights": "[1, 2.5]", "count": "7"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    return registered(tmp_path_factory.mktemp("console"))


@pytest.fixture
def world(shared: World) -> World:
    shared.sent, shared.answer = [], httpx.Response(200, json={"prediction": 12.5})
    return shared


def ask(world: World, model: str, **request: Any) -> httpx2.Response:
    return world.client.post(f"/console/models/{model}/try", headers=BY_HTMX, **request)


def test_the_champion_is_asked_in_the_contracts_types_under_an_id_that_is_shown(world: World) -> None:
    answered = ask(world, "air", data=TYPED)
    assert answered.status_code == 200
    (sent,) = world.sent
    assert str(sent.url) == f"{TORCHSERVE}/predictions/air/1.1"
    assert json.loads(sent.content) == {"distance": 1.5, "carrier": "UA"}
    assert "x-top-k" not in sent.headers
    id = sent.headers["x-request-id"]
    assert id in answered.text
    assert "12.5" in answered.text
    assert "minutes" in answered.text
    assert " ms." in answered.text


def test_texts_switches_integers_and_tensors_are_sent_as_such(world: World) -> None:
    classes = [{"label": label, "index": i, "probability": 0.5} for i, label in enumerate(("good", "<bad>"))]
    world.answer = httpx.Response(200, json={"prediction": classes[0] | {"top_k": classes}})
    answered = ask(world, "mood", data=MOOD)
    (sent,) = world.sent
    assert json.loads(sent.content) == {"text": "a & b\r\nc", "polite": False, "weights": [1, 2.5], "count": 7}
    assert sent.headers["x-top-k"] == "2"
    assert "good" in answered.text
    assert "&lt;bad&gt;" in answered.text
    assert "50.0%" in answered.text


def test_a_picture_goes_on_as_it_came_and_without_one_the_examples_is_sent(world: World) -> None:
    ask(world, "clothes", files={"image": ("boot.png", png(), "image/png")})
    assert world.sent[0].headers["content-type"].startswith("multipart/form-data; boundary=")
    assert png() in world.sent[0].content
    ask(world, "clothes", data={"example": ""})
    assert json.loads(world.sent[1].content) == clothes().example.request


@pytest.mark.parametrize(
    ("example", "typed", "sent"),
    [(b"abc", "x y", b"x y"), (b"abc", "", b"abc"), (b"\xff\x00", "", b"\xff\x00")],
)
def test_a_handler_from_elsewhere_is_asked_what_was_typed_or_its_example(
    example: bytes, typed: str, sent: bytes
) -> None:
    requests: list[httpx.Request] = []
    answers = [
        httpx.Response(200, text="fine"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, content=b"\x00" * 9),
        httpx.Response(500, text="fine"),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return answers[len(requests) - 1]

    contract = opaque(opaque_example(example, "text/own", (b"", b"")))
    trial = Trial(TORCHSERVE, httpx.Client(transport=httpx.MockTransport(answer)))
    results = [trial.ask(contract, FORM, urlencode({"body": typed}).encode()) for _ in range(4)]
    assert {(request.content, request.headers["content-type"]) for request in requests} == {(sent, "text/own")}
    assert [result.answer for result in results] == ["fine", [1], "9 bytes of an unknown type", None]
    assert (results[-1].status, results[-1].fault) == (502, "Its handler answered 500: fine")


@pytest.mark.parametrize(
    ("model", "typed", "sentence"),
    [
        ("air", {"carrier": "UA"}, "distance is missing."),
        ("air", TYPED | {"distance": "far"}, "distance is &#39;far&#39;; it must be number (miles)."),
        ("air", TYPED | {"distance": "nan"}, "it must be number"),
        ("air", TYPED | {"distance": "1e999"}, "it must be number"),
        ("mood", MOOD | {"count": "1.5"}, "it must be integer from 0 to 9"),
        ("mood", MOOD | {"polite": "perhaps"}, "it must be boolean"),
        ("mood", MOOD | {"weights": "[1,"}, "it must be array of shape [2]"),
        ("mood", MOOD | {"count": "1" * 5000}, "it must be integer"),
    ],
)
def test_what_is_no_value_of_its_field_is_told_and_not_sent(
    world: World, model: str, typed: dict[str, str], sentence: str
) -> None:
    refused = ask(world, model, data=typed)
    assert refused.status_code == 422
    assert sentence in refused.text
    assert "hx-retarget" not in refused.headers  # it stands where the answer would
    assert not world.sent


def test_a_form_that_cannot_be_read_is_told(world: World) -> None:
    json_sent = ask(world, "air", json=TYPED)
    assert "A form of type application/json cannot be read here." in json_sent.text
    assert "A form of type multipart/form-data" in ask(world, "air", files={"distance": b"1"}).text
    form = {"Content-Type": "application/x-www-form-urlencoded"} | BY_HTMX
    for content in (b"distance=\xff", urlencode({f"f{i}": i for i in range(2000)}).encode()):
        refused = world.client.post("/console/models/air/try", content=content, headers=form)
        assert "The form cannot be read" in refused.text
    assert not world.sent


def test_what_is_too_large_is_refused_before_it_is_all_here(world: World) -> None:
    refused = ask(world, "clothes", content=b"x" * (LARGEST + 1))
    assert refused.status_code == 413
    assert "at most 6 MB" in refused.text
    assert not world.sent


@pytest.mark.parametrize(
    ("answer", "status", "sentence"),
    [
        (httpx.ConnectError("refused"), 502, "The service cannot be reached: refused."),
        (httpx.Response(503, json={"code": 503, "message": "no <worker>"}), 502, "503: no &lt;worker&gt;"),
        (httpx.Response(500, text="<html>"), 502, "500, which is no JSON"),
        (httpx.Response(200, json=[1]), 502, "with what is no prediction"),
        (
            httpx.Response(400, json={"error": {"message": "is 99", "path": "$.hour", "expected": "0 to 23"}}),
            422,
            "The model refused $.hour: is 99; it must be 0 to 23.",
        ),
    ],
)
def test_what_torchserve_says_instead_is_a_sentence(
    world: World, answer: httpx.Response | Exception, status: int, sentence: str
) -> None:
    world.answer = answer
    told = ask(world, "air", data=TYPED)
    assert told.status_code == status
    assert sentence in told.text


@pytest.mark.parametrize("model", ["..%2F..%2Fmodels", "none", "air%2F1.0", "http:%2F%2Felsewhere.example"])
def test_nothing_but_a_model_that_is_registered_can_be_asked(world: World, model: str) -> None:
    assert ask(world, model, data=TYPED).status_code in (404, 405)
    assert not world.sent
