"""The description of the routes is OpenAPI 3.1, and every example that it shows has the schema beside it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from msgspec.structs import replace

from handlers.contract import Example, ModelContract, TensorSpec
from handlers.contract.pictures import Picture
from handlers.language.api import requests
from handlers.language.api.responses.requests import parse_response_request
from handlers.message import JSON
from serving.hosts.direct.http.openapi import describe
from serving.hosts.direct.http.schemas import row_schema
from tests.support import chat_archive
from tests.support.handlers.models import FLIGHTS, LINE, MIXED, PICTURES, contract

ORDERS = contract(TensorSpec("at", "INT64", timestamp=True), TensorSpec("x", "FP32", nullable=True), name="orders")
PHOTO = TensorSpec("photo", "UINT8", (-1, 4, 4, 3), picture=Picture("fit"))
PHOTOS = contract(PHOTO, name="photos")
ROWS: dict[str, dict[str, Any]] = {
    "orders": {"at": "2013-03-01T10:00:00Z", "x": None},
    "line": {"x": 6.0},
    "flights": {"distance": 1400, "hour": 8, "carrier": "UA"},
    "pictures": {"inputs": [[7] * 6] * 6},
    "photos": {"inputs": [[[7] * 3] * 4] * 4},
    "mixed": {"words": ["a", "b"], "serial": 7, "flags": [True, False, True], "tensor": [[1, 2], [3, 4]]},
}


def with_example(contract: ModelContract) -> ModelContract:
    answer: Any = {"label": "boot", "index": 1, "probability": 0.9} if contract.labels else 1.5
    return replace(contract, example=Example(ROWS[contract.name], {"prediction": answer}))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    contracts = [with_example(contract) for contract in (LINE, FLIGHTS, PICTURES, PHOTOS, MIXED, ORDERS)]
    models = {contract.name: {"1.2": contract, "1.3": contract} for contract in contracts}
    language = {"chat": {number: chat_contract(number) for number in ("1.1", "1.0")}}
    written: dict[str, Any] = json.loads(json.dumps(describe(models, dict.fromkeys(models, "1.3"), language)))
    return written


def chat_contract(number: str) -> ModelContract:
    example = chat_archive.echoed("Hello")
    return chat_archive.contract("chat", replace(example, request={"prompt": "Hello", "max_tokens": 4}), number)


def predictions(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        if "post" in methods:
            yield path, methods["post"]


def fits(value: Any, schema: dict[str, Any], components: dict[str, Any] | None = None) -> bool:
    """Whether a value has a schema, as far as the keywords go that are written here."""
    if "$ref" in schema:
        schema = (components or {})[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return any(fits(value, one, components) for one in schema["anyOf"])
    kinds = {
        "string": str,
        "number": (int, float),
        "integer": int,
        "boolean": bool,
        "array": list,
        "object": dict,
        "null": type(None),
    }
    if isinstance(schema.get("type"), list):
        return any(fits(value, schema | {"type": kind}, components) for kind in schema["type"])
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):  # type: ignore[arg-type]
        return False
    if value != schema.get("const", value):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, list):
        low, high = schema.get("minItems", 0), schema.get("maxItems", len(value))
        return low <= len(value) <= high and all(fits(item, schema["items"], components) for item in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        named = all(name in properties and fits(value[name], properties[name], components) for name in value)
        return {*schema.get("required", [])} <= {*value} and named
    return value is None or bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    assert OpenAPI.model_validate(document).openapi == "3.1.0"


def test_every_route_of_every_version_is_there_and_named_once(document: dict[str, Any]) -> None:
    paths = [path for path, _ in predictions(document)]
    # Models, protocols; the champion, and either version by its number. Of the language model, OpenAI's API has no
    # champion's URL but the plain base URL, with three routes for texts and two for tokens.
    assert len(paths) == 6 * 3 * 3 + 3 + 5 * 3
    assert {"/predictions/line", "/v1/models/line:predict", "/v2/models/line/versions/1.2/infer"} <= {*paths}
    names = [operation["operationId"] for _, operation in predictions(document)]
    assert len({*names}) == len(names)


def test_every_example_has_its_schema(document: dict[str, Any]) -> None:
    for path, operation in predictions(document):
        content = operation["requestBody"]["content"][JSON]
        assert fits(content["example"], content["schema"], document["components"]["schemas"]), path


@pytest.mark.parametrize("row", [{"distance": 16}, {"hour": 24}, {"hour": "8"}, {"carrier": "??"}])
def test_what_the_contract_refuses_the_schema_does_too(row: dict[str, Any]) -> None:
    schema = row_schema(FLIGHTS)
    assert fits(ROWS["flights"], schema)
    assert not fits(ROWS["flights"] | row, schema)
    assert not fits({"distance": 1400}, schema)


def test_openais_routes_have_the_schemas_by_which_requests_are_parsed(document: dict[str, Any]) -> None:
    components, paths = document["components"]["schemas"], document["paths"]
    for base in ("/v1", "/predictions/chat/1.0/v1"):
        for path, parse in (("chat/completions", requests.chat), ("completions", requests.completion)):
            content = paths[f"{base}/{path}"]["post"]["requestBody"]["content"][JSON]
            assert parse(json.dumps(content["example"]).encode()).max_tokens == 4
            mistakes: list[dict[str, Any]] = [{"model": "gpt"}, {"temperature": 9}, {"n": 129}, {"functions": []}]
            for wrong in mistakes:
                assert not fits(content["example"] | wrong, content["schema"], components), wrong
    for base in ("", "/predictions/chat/1.0"):
        assert paths[f"{base}/tokenize"]["post"]["requestBody"]["content"][JSON]["example"]["prompt"] == "Hello"
        assert paths[f"{base}/detokenize"]["post"]["requestBody"]["content"][JSON]["example"]["tokens"] == [1]
    native = paths["/predictions/chat"]["post"]["requestBody"]["content"][JSON]
    assert native["example"] == {"prompt": "Hello", "max_tokens": 4}
    chat = paths["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert chat[JSON]["schema"]["properties"]["choices"]["items"]["properties"]["message"]["type"] == "object"
    assert "text/event-stream" in chat
    response = paths["/v1/responses"]["post"]
    content = response["requestBody"]["content"][JSON]
    assert parse_response_request(json.dumps(content["example"]).encode()).max_tokens == 4
    for wrong in ({"model": "gpt"}, {"temperature": 9}, {"input": [{"type": "image"}]}, {"max_tokens": 4}):
        assert not fits(content["example"] | wrong, content["schema"], components), wrong
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "5"},
    ]
    assert fits(content["example"] | {"input": items}, content["schema"], components)
    written = response["responses"]["200"]["content"][JSON]["schema"]["properties"]
    assert written["output"]["items"]["properties"]["role"] == {"type": "string"}


def test_without_a_language_model_nothing_speaks_of_one() -> None:
    text = json.dumps(describe({"line": {"1.2": with_example(LINE)}}, {"line": "1.2"}, {}))
    assert "completions" not in text
    assert "ChatRequest" not in text


def test_a_picture_may_be_a_file_in_the_body_or_in_json(document: dict[str, Any]) -> None:
    content = document["paths"]["/predictions/photos"]["post"]["requestBody"]["content"]
    assert {*content} == {JSON, "image/png", "image/jpeg", "image/webp", "image/gif"}
    for picture in ({"b64": "aGk="}, "data:image/png;base64,aGk="):
        assert fits({"inputs": picture}, content[JSON]["schema"])
    assert not fits({"inputs": {"file": "aGk="}}, content[JSON]["schema"])
    assert {*document["paths"]["/predictions/pictures"]["post"]["requestBody"]["content"]} == {JSON}
    v1 = document["paths"]["/v1/models/photos:predict"]["post"]["requestBody"]["content"]
    assert {*v1} == {JSON}
    assert fits({"instances": [{"b64": "aGk="}]}, v1[JSON]["schema"])


def test_an_input_that_may_be_missing_is_not_required_and_may_be_null() -> None:
    city = TensorSpec("city", "BYTES", categories=("Bonn", "Ulm"), nullable=True, default="Ulm")
    schema = row_schema(
        contract(TensorSpec("age", "FP32", range=(0, 9), nullable=True), city, TensorSpec("n", "INT64"))
    )
    at = row_schema(contract(TensorSpec("at", "INT64", timestamp=True)))
    assert at["properties"]["at"] == {"type": "string", "format": "date-time"}
    assert schema["required"] == ["n"]
    assert schema["properties"]["age"] == {"type": ["number", "null"], "minimum": 0, "maximum": 9}
    cities = {"type": ["string", "null"], "enum": ["Bonn", "Ulm", None], "default": "Ulm"}
    assert schema["properties"]["city"] == cities
