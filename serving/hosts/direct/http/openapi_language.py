"""The description of the language models' routes: OpenAI's API, with the schemas by which its requests are parsed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from handlers.contract import ModelContract
from handlers.language.api import forms, requests
from handlers.language.api.answers import EVENTS, usage
from handlers.language.api.responses.forms import ResponseRequest
from handlers.language.api.responses.requests import parse_response_request
from handlers.language.api.routes import DETOKENIZE, TOKENIZE, answer_of
from handlers.language.text import Shown
from handlers.message import JSON
from serving.hosts.direct.http.schemas import (
    NATIVE_ERROR,
    OPENAI_ERROR,
    Schema,
    get_operation,
    post_operation,
    reference,
    schema_like,
)

BY_MODEL = (
    forms.ChatRequest,
    forms.CompletionRequest,
    ResponseRequest,
    forms.TokenizeRequest,
    forms.DetokenizeRequest,
)
BODIES = (*BY_MODEL, forms.NativeRequest)
STREAM: Schema = {"type": "string", "description": "with stream: true, server-sent events of the answer's parts"}
TAG = "OpenAI's API"
SUMMARIES = {"chat": "Create a chat completion", "completion": "Create a completion", "response": "Create a response"}


def components(names: Sequence[str]) -> dict[str, Schema]:
    """Return the schemas of the requests; none without a language model.

    Args:
        names: of the language models.
    """
    if not names:
        return {}
    schemas: dict[str, Schema] = msgspec.json.schema_components(BODIES, ref_template="#/components/schemas/{name}")[1]
    schemas = _with_constants(schemas)
    for body in BY_MODEL:
        schema = schemas[body.__name__]
        schema["properties"]["model"] = {"type": "string", "enum": list(names)}
        schema["required"] = ["model", *schema.get("required", [])]
    return schemas


def paths(models: Mapping[str, Mapping[str, ModelContract]]) -> Iterator[tuple[str, Any]]:
    """Yield the routes of all language models.

    Args:
        models: contracts of the versions by name and number, each champion's first.
    """
    for name, versions in sorted(models.items()):
        champion, *_ = versions.values()
        if name == min(models):
            yield from _openai(champion, "/v1", "by_model", TAG)
        yield f"/predictions/{name}", {"post": _native(champion, "champion")}
        yield f"/v1/models/{name}", {"get": get_operation("Whether it is served as the registry says", [name])}
        for path, text in {"": "Its versions", "/ready": "Whether it is served as the registry says"}.items():
            yield f"/v2/models/{name}{path}", {"get": get_operation(text, [name])}
        for number, contract in sorted(versions.items()):
            base = f"/predictions/{name}/{number}"
            yield base, {"post": _native(contract, number)}
            yield from _openai(contract, f"{base}/v1", f"{name}_{number}", name)


def _openai(contract: ModelContract, base: str, ident: str, tag: str) -> Iterator[tuple[str, Any]]:
    """Yield the routes of OpenAI's API behind a base URL, and beside it those of tokens."""
    parameters = dict(contract.example.request)
    prompt = parameters.pop("prompt")
    chat = {"model": contract.name, "messages": [{"role": "user", "content": prompt}]} | parameters
    completion = {"model": contract.name, "prompt": prompt} | parameters
    response = {"model": contract.name, "input": prompt, "max_output_tokens": parameters.get("max_tokens", 16)}
    for path, body, example, request in (
        ("chat/completions", forms.ChatRequest, chat, requests.chat(_json(chat))),
        ("completions", forms.CompletionRequest, completion, requests.completion(_json(completion))),
        ("responses", ResponseRequest, response, parse_response_request(_json(response))),
    ):
        answers = {JSON: _answer(request), EVENTS.partition(";")[0]: STREAM}
        operation = post_operation(SUMMARIES[request.kind], reference(body.__name__), example, answers, OPENAI_ERROR)
        yield f"{base}/{path}", {"post": operation | {"tags": [tag], "operationId": _id(ident, request.kind)}}
    root, model = base.removesuffix("/v1"), {"model": contract.name}
    told = {"count": 1, "max_model_len": 1, "tokens": [1], "token_strs": None}
    for route, asked, answer in (
        (TOKENIZE, model | {"prompt": prompt}, told),
        (DETOKENIZE, model | {"tokens": [1]}, {"prompt": ""}),
    ):
        schema = reference(f"{route.capitalize()}Request")
        operation = post_operation(
            f"{route.capitalize()} a text", schema, asked, {JSON: schema_like(answer)}, OPENAI_ERROR
        )
        yield f"{root}/{route}", {"post": operation | {"tags": [tag], "operationId": _id(ident, route)}}


def _native(contract: ModelContract, number: str) -> Schema:
    answer, example = schema_like(contract.example.response), contract.example.request
    body = reference(forms.NativeRequest.__name__)
    operation = post_operation("Continue a prompt", body, example, {JSON: answer}, NATIVE_ERROR)
    return operation | {"tags": [contract.name], "operationId": _id(contract.name, f"{number}_native")}


def _answer(request: requests.TextRequest) -> Schema:
    """Return the schema of a whole answer, as the worker writes it."""
    answer = answer_of(request, "", "", 0)
    answer.finish(0, Shown("text"), "stop")
    return schema_like(json.loads(answer.end(usage(1, 1, 0))))


def _with_constants(schema: Any) -> Any:
    """Return a schema with ``const`` for an enumeration of one value, as generators of clients know no boolean one."""
    match schema:
        case {"enum": [constant], **others}:
            return others | {"const": constant}
        case dict():
            return {name: _with_constants(member) for name, member in schema.items()}
        case list():
            return [_with_constants(member) for member in schema]
    return schema


def _json(body: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(body)


def _id(*parts: str) -> str:
    return re.sub(r"\W", "_", "_".join(parts))
