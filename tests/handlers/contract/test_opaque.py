"""A handler from elsewhere gets whole requests at its native route, and at no other."""

import json

import msgspec
import numpy as np
import pytest

from handlers.contract import ModelContract
from handlers.contract.example import is_right, opaque_example, request_of
from handlers.formats.opaque import OpaqueCodec, as_array
from handlers.handler import ModelHandler
from handlers.message import JSON, Part, Request, Response, error_detail
from tests.support.handlers.models import Backwards, opaque


def ask(*requests: Request, batch_size: int = 1) -> tuple[list[Response], list[list[bytes]]]:
    engine = Backwards()
    model = opaque()
    return ModelHandler(model, engine, OpaqueCodec(model, batch_size)).handle(requests), engine.batches


def test_an_answer_goes_out_as_it_is_made() -> None:
    ((response,), _) = ask(Request(b"abc", {"content-type": "application/x-own"}))
    assert (response.status, response.body, response.content_type) == (202, b"cba", "text/plain")
    assert response.headers == {"x-own": "1"}


def test_a_form_and_an_empty_body_reach_the_handler_too() -> None:
    form = Request(b"", {"content-type": "multipart/form-data"}, {"data": b"x"}, "", (Part("data", b"x"),))
    assert [response.status for response in ask(form, Request(b"", {}))[0]] == [202, 202]


def test_batches_are_as_large_as_its_archive_allows_and_one_that_fails_harms_no_other() -> None:
    requests = [Request(body, {}) for body in (b"a", b"bad", b"c")]
    responses, batches = ask(*requests, batch_size=2)
    assert batches == [[b"a", b"bad"], [b"a"], [b"bad"], [b"c"]]
    assert [response.status for response in responses] == [202, 500, 202]
    assert {len(batch) for batch in ask(*requests)[1]} == {1}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"explain": "v1"}, "not_found"),
        ({"explain": "v2"}, "not_found"),
        ({"url_path": "v1/models/legacy:predict"}, "not_found"),
        ({"url_path": "v2/models/legacy"}, "not_found"),
        ({"explain": "True"}, "not_supported"),
    ],
)
def test_a_route_of_a_protocol_is_refused_with_the_right_one(headers: dict[str, str], code: str) -> None:
    ((response,), batches) = ask(Request(b'{"instances": [1]}', {"content-type": JSON} | headers))
    detail = error_detail(json.loads(response.body))
    assert (detail["code"], batches) == (code, [])
    if code == "not_found":
        assert (response.status, detail["expected"]) == (404, "/predictions/legacy")


@pytest.mark.parametrize(
    ("answers", "right", "wrong"),
    [
        ((b'{"a": [1.0]}', b'{"a":[1]}'), b'{"a": [1.00001]}', b'{"a": [2]}'),
        ((b"fine", b"fine"), b"fine", b"Fine"),
        ((b"\x89PNG", b"\x89PNG"), b"\x89PNG", b"\x89PN"),
        ((b"x" * 100_000, b"x" * 100_000), b"x" * 100_000, b"x"),
    ],
    ids=["json", "text", "bytes", "large"],
)
def test_an_example_knows_the_right_answer(answers: tuple[bytes, bytes], right: bytes, wrong: bytes) -> None:
    model = ModelContract.from_json(opaque(opaque_example(b'{"q": 1}', JSON, answers)).to_json())
    assert len(model.to_json()) < 3000
    assert (is_right(model, right), is_right(model, wrong)) == (True, False)


@pytest.mark.parametrize("answers", [(b'{"at": 1}', b'{"at": 2}'), (b"one", b"two")])
def test_where_answers_differ_any_is_right(answers: tuple[bytes, bytes]) -> None:
    example = opaque_example(b"?", "text/plain", answers)
    assert example.response == {}
    assert is_right(opaque(example), b"three")


@pytest.mark.parametrize("body", [b'{"q": 1}\n', b"\xff\xd8\xff", "größer".encode()])
def test_an_example_is_sent_byte_for_byte(body: bytes) -> None:
    model = ModelContract.from_json(opaque(opaque_example(body, "image/jpeg", (b"", b""))).to_json())
    assert request_of(model) == (body, "image/jpeg")


def test_it_has_the_format_that_an_older_marloop_refuses_by_name() -> None:
    bare = msgspec.structs.replace(opaque(), format=msgspec.UNSET)
    assert ModelContract.from_json(bare.to_json()).format == 2
    assert as_array([Response(200, b"")]).shape == (1,)
    assert as_array([Response(200, b"")]).dtype == np.object_
