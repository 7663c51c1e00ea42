"""The description of all routes by OpenAPI 3.1, made from the contracts of the served models."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from handlers.contract import ModelContract
from handlers.contract.example import request_of
from handlers.contract.times import as_seconds
from handlers.formats.pictures import FORMATS
from handlers.formats.requests import native_row, to_json, v1_request, v2_request
from handlers.http.kserve import SERVER, V1, V2
from handlers.message import JSON
from serving.hosts.direct.http import openapi_language
from serving.hosts.direct.http.schemas import (
    ERRORS,
    NATIVE_ERROR,
    PROTOCOL_ERROR,
    Schema,
    get_operation,
    post_operation,
    row_schema,
    schema_like,
)

TENSOR: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "data": {"type": "array", "items": {}},
    },
    "required": ["name", "shape", "datatype", "data"],
}
SUMMARIES = {"native": "Predict", V1: "Predict, by KServe v1", V2: "Predict, by the Open Inference Protocol"}
READS: Mapping[str, str] = {  # routes of no single model
    "/health": "Whether a worker answers, as servers of language models are asked",
    "/ping": "Whether a worker answers",
    "/v1/models": "Names of the models",
    "/v2": "What this server speaks",
    "/v2/health/live": "Whether a worker answers",
    "/v2/health/ready": "Whether every worker serves what the registry says",
    "/v2/repository/index": "Models and versions that are served",
}
Versions = Mapping[str, Mapping[str, ModelContract]]


def describe(models: Versions, defaults: Mapping[str, str], language: Versions) -> dict[str, Any]:
    """Return the document.

    Args:
        models: contracts of the served versions, by name and number.
        defaults: the champion's number, by name.
        language: contracts of the language models' versions likewise, each champion's first.
    """
    paths: dict[str, Any] = {path: {"get": get_operation(text)} for path, text in READS.items()}
    for name, versions in sorted(models.items()):
        for number, contract in sorted(versions.items()):
            numbers = ("", number) if number == defaults.get(name) else (number,)
            for path in numbers:
                paths |= _opaque_paths(contract, path) if contract.task == "opaque" else _paths(contract, path)
    paths |= openapi_language.paths(language)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Marloop", "version": SERVER["version"], "description": "Predictions of the served models."},
        "paths": paths,
        "components": {"schemas": dict(ERRORS) | openapi_language.components(sorted(language))},
    }


def _paths(contract: ModelContract, number: str) -> Iterator[tuple[str, Any]]:
    """Yield the routes of a version, or of the champion where the number is empty."""
    name, row = contract.name, native_row(contract, contract.example.request)
    answer = schema_like(contract.example.response.get("prediction"))
    versions = f"/versions/{number}" if number else ""
    native = row_schema(contract)
    if not contract.has_named_rows:
        native = {"type": "object", "properties": {"inputs": native}, "required": ["inputs"]}
    requests = {
        f"/predictions/{name}" + (f"/{number}" if number else ""): (
            "native",
            native,
            contract.example.request,
            {"type": "object", "properties": {"prediction": answer}},
        ),
        f"/v1/models/{name}{versions}:predict": (
            V1,
            _instances(contract),
            v1_request(contract, [row]),
            _object("predictions", answer),
        ),
        f"/v2/models/{name}{versions}/infer": (
            V2,
            _object("inputs", TENSOR),
            _tensors(contract, row),
            _object("outputs", TENSOR),
        ),
    }
    for path, (protocol, schema, example, answered) in requests.items():
        error = NATIVE_ERROR if protocol == "native" else PROTOCOL_ERROR
        kinds = (JSON, *FORMATS) if contract.inputs[0].picture and protocol == "native" else (JSON,)
        operation = post_operation(SUMMARIES[protocol], schema, example, {JSON: answered}, error, kinds)
        operation |= {"tags": [name], "operationId": re.sub(r"\W", "_", f"{name}_{number or 'champion'}_{protocol}")}
        yield path, {"post": operation}
    for path, text in {
        f"/v2/models/{name}{versions}": "Names, datatypes and shapes of its tensors",
        f"/v2/models/{name}{versions}/ready": "Whether it is served as the registry says",
    }.items():
        yield path, {"get": get_operation(text, [name])}


def _opaque_paths(contract: ModelContract, number: str) -> Iterator[tuple[str, Any]]:
    """Yield the routes of a version whose handler was written elsewhere, of which no schema is known."""
    (body, kind), name = request_of(contract), contract.name
    example = json.loads(body) if kind == JSON else body.decode("utf-8", "replace") if kind.startswith("text") else None
    answer = contract.example.response
    answers = {JSON: schema_like(answer["json"])} if "json" in answer else {"*/*": {}}
    operation = post_operation("Ask its own handler", {}, example, answers, NATIVE_ERROR, (kind,))
    operation |= {"tags": [name], "operationId": re.sub(r"\W", "_", f"{name}_{number or 'champion'}_native")}
    yield f"/predictions/{name}" + (f"/{number}" if number else ""), {"post": operation}
    ready = f"/v2/models/{name}" + (f"/versions/{number}" if number else "") + "/ready"
    yield ready, {"get": get_operation("Whether it is served as the registry says", [name])}


def _object(member: str, items: Schema) -> Schema:
    return {"type": "object", "properties": {member: {"type": "array", "items": items}}, "required": [member]}


def _instances(contract: ModelContract) -> Schema:
    schema = _object("instances", row_schema(contract))
    if contract.max_rows:
        schema["properties"]["instances"]["maxItems"] = contract.max_rows
    return schema


def _tensors(contract: ModelContract, row: Mapping[str, Any]) -> Any:
    """Return a row in the Open Inference Protocol; None where the example lacks a value, or has another form."""
    try:
        values = {s.name: as_seconds(row[s.name]) if s.timestamp else row[s.name] for s in contract.inputs}
        tensors = {spec.name: np.array([values[spec.name]], spec.dtype) for spec in contract.inputs}
    except (KeyError, TypeError, ValueError):
        return None
    return json.loads(to_json(v2_request(contract, tensors)))
