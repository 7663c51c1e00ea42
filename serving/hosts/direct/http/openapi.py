"""The description of all routes by OpenAPI 3.1, made from the contracts of the served models."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from handlers.contract import ModelContract, TensorSpec
from handlers.formats.requests import native_row, to_json, v1_request, v2_request
from handlers.http.kserve import SERVER, V1, V2
from handlers.message import JSON, STATUS

Schema = dict[str, Any]
KINDS: Mapping[str, Schema] = {"B": {"type": "string"}, "F": {"type": "number"}, "I": {"type": "integer"}}
DETAILS: Mapping[str, Schema] = {
    "code": {"type": "string", "enum": sorted(STATUS)},
    "path": {"type": "string", "description": "where, as a JSON path or the name of a header"},
    "expected": {"type": "string", "description": "what would be right"},
    "request_id": {"type": "string"},
}
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
ERRORS: Mapping[str, Schema] = {
    "NativeError": {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": {"message": {"type": "string"}, **DETAILS}}},
    },
    "ProtocolError": {"type": "object", "properties": {"error": {"type": "string"}, **DETAILS}},
}
READS: Mapping[str, str] = {  # routes of no single model
    "/ping": "Whether a worker answers",
    "/v1/models": "Names of the models",
    "/v2": "What this server speaks",
    "/v2/health/live": "Whether a worker answers",
    "/v2/health/ready": "Whether every worker serves what the registry says",
    "/v2/repository/index": "Models and versions that are served",
}


def describe(models: Mapping[str, Mapping[str, ModelContract]], defaults: Mapping[str, str]) -> dict[str, Any]:
    """Return the document.

    Args:
        models: contracts of the served versions, by name and number.
        defaults: the champion's number, by name.
    """
    paths: dict[str, Any] = {path: {"get": _get_operation(text)} for path, text in READS.items()}
    for name, versions in sorted(models.items()):
        for number, contract in sorted(versions.items()):
            if number == defaults.get(name):
                paths |= _paths(contract, "")
            paths |= _paths(contract, number)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Marloop", "version": SERVER["version"], "description": "Predictions of the served models."},
        "paths": paths,
        "components": {"schemas": dict(ERRORS)},
    }


def row_schema(contract: ModelContract) -> Schema:
    """Return the schema of a row: an object of named values, or the value of the only input."""
    if not contract.has_named_rows:
        return value_schema(contract.inputs[0])
    names = [spec.name for spec in contract.inputs]
    properties = {spec.name: value_schema(spec) for spec in contract.inputs}
    return {"type": "object", "properties": properties, "required": names}


def value_schema(spec: TensorSpec) -> Schema:
    """Return the schema of an input's value in one row."""
    schema: Schema = {"type": "boolean"} if spec.datatype == "BOOL" else dict(KINDS.get(spec.datatype[0], KINDS["I"]))
    if spec.categories:
        schema["enum"] = list(spec.categories)
    if spec.range:
        schema["minimum"], schema["maximum"] = spec.range
    for size, most in zip(reversed(spec.shape[1:]), reversed(spec.largest), strict=True):
        schema = {"type": "array", "items": schema, "minItems": 1 if size == -1 else size, "maxItems": most}
    if description := " ".join(filter(None, (spec.description, spec.unit and f"({spec.unit})"))):
        schema["description"] = description
    return schema


def schema_like(value: Any) -> Schema:
    """Return the schema of an answer from the example's value."""
    match value:
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case [first, *_]:
            return {"type": "array", "items": schema_like(first)}
        case dict():
            return {"type": "object", "properties": {name: schema_like(member) for name, member in value.items()}}
    return {}


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
        operation = _operation(protocol, schema, example, answered)
        operation |= {"tags": [name], "operationId": re.sub(r"\W", "_", f"{name}_{number or 'champion'}_{protocol}")}
        yield path, {"post": operation}
    for path, text in {
        f"/v2/models/{name}{versions}": "Names, datatypes and shapes of its tensors",
        f"/v2/models/{name}{versions}/ready": "Whether it is served as the registry says",
    }.items():
        yield path, {"get": _get_operation(text) | {"tags": [name]}}


def _operation(protocol: str, schema: Schema, example: Any, answered: Schema) -> dict[str, Any]:
    error = {"$ref": f"#/components/schemas/{'NativeError' if protocol == 'native' else 'ProtocolError'}"}
    return {
        "summary": {"native": "Predict", V1: "Predict, by KServe v1", V2: "Predict, by the Open Inference Protocol"}[
            protocol
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": schema, "example": example}}},
        "responses": {
            "200": {"description": "The answer", "content": {JSON: {"schema": answered}}},
            "default": {"description": "Why there is none", "content": {JSON: {"schema": error}}},
        },
    }


def _get_operation(summary: str) -> dict[str, Any]:
    answer = {"description": "The answer", "content": {JSON: {"schema": {"type": "object"}}}}
    return {"summary": summary, "responses": {"200": answer}}


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
        tensors = {spec.name: np.array([row[spec.name]], spec.dtype) for spec in contract.inputs}
    except (KeyError, TypeError, ValueError):
        return None
    return json.loads(to_json(v2_request(contract, tensors)))
