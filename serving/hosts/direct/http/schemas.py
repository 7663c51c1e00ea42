"""Schemas of OpenAPI 3.1: of rows by a contract, of answers by an example, and the operations that have them."""

from collections.abc import Mapping, Sequence
from typing import Any

from handlers.contract import ModelContract, TensorSpec
from handlers.message import JSON, STATUS

Schema = dict[str, Any]
DETAILS: Mapping[str, Schema] = {
    "code": {"type": "string", "enum": sorted(STATUS)},
    "path": {"type": "string", "description": "where, as a JSON path or the name of a header"},
    "expected": {"type": "string", "description": "what would be right"},
    "request_id": {"type": "string"},
}
PICTURE: tuple[Schema, ...] = (  # a file in JSON
    {
        "type": "object",
        "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
        "required": ["b64"],
        "additionalProperties": False,
    },
    {"type": "string", "pattern": "^data:image/", "description": "a data URL with base64"},
)
NATIVE_ERROR, PROTOCOL_ERROR, OPENAI_ERROR = "NativeError", "ProtocolError", "OpenAIError"
ERRORS: Mapping[str, Schema] = {
    NATIVE_ERROR: {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": {"message": {"type": "string"}, **DETAILS}}},
    },
    PROTOCOL_ERROR: {"type": "object", "properties": {"error": {"type": "string"}, **DETAILS}},
    OPENAI_ERROR: {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": DETAILS["code"],
                },
            }
        },
    },
}


def reference(component: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{component}"}


def row_schema(contract: ModelContract) -> Schema:
    """Return the schema of a row: an object of named values, or the value of the only input."""
    if not contract.has_named_rows:
        return value_schema(contract.inputs[0])
    names = [spec.name for spec in contract.inputs if not spec.nullable]
    properties = {spec.name: value_schema(spec) for spec in contract.inputs}
    return {"type": "object", "properties": properties, "required": names}


def value_schema(spec: TensorSpec) -> Schema:
    """Return the schema of an input's value in one row."""
    kind = {"BYTES": "string", "BOOL": "boolean"}.get(spec.datatype, "number" if spec.is_float else "integer")
    schema: Schema = {"type": kind}
    if spec.categories:
        schema["enum"] = list(spec.categories)
    if spec.timestamp:
        schema = {"type": "string", "format": "date-time"}
    elif spec.range:
        schema["minimum"], schema["maximum"] = spec.range
    if spec.nullable:
        schema["type"] = [schema["type"], "null"]
        if spec.categories:
            schema["enum"].append(None)
        if spec.default is not None:
            schema["default"] = spec.default
    for size, most in zip(reversed(spec.shape[1:]), reversed(spec.largest), strict=True):
        schema = {"type": "array", "items": schema, "minItems": 1 if size == -1 else size, "maxItems": most}
    if spec.picture:
        schema = {"anyOf": [schema, *PICTURE]}
    if description := " ".join(filter(None, (spec.description, spec.unit and f"({spec.unit})"))):
        schema["description"] = description
    return schema


def schema_like(value: Any) -> Schema:
    """Return the schema of an answer from the example's value; null may become anything."""
    match value:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case [first, *_]:
            return {"type": "array", "items": schema_like(first)}
        case dict():
            return {"type": "object", "properties": {name: schema_like(member) for name, member in value.items()}}
    return {}


def post_operation(
    summary: str,
    schema: Schema,
    example: Any,
    answers: Mapping[str, Schema],
    error: str,
    kinds: Sequence[str] = (JSON,),
) -> Schema:
    """Return the operation that answers a body.

    Args:
        answers: schemas of the answer by content type.
        error: name of the error's component.
        kinds: content types of the body; the first has the schema.
    """
    content: Schema = {kind: {} for kind in kinds} | {kinds[0]: {"schema": schema, "example": example}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "The answer",
                "content": {kind: {"schema": answer} for kind, answer in answers.items()},
            },
            "default": {"description": "Why there is none", "content": {JSON: {"schema": reference(error)}}},
        },
    }


def get_operation(summary: str, tags: Sequence[str] = ()) -> Schema:
    """Return an operation without a body."""
    answer = {"description": "The answer", "content": {JSON: {"schema": {"type": "object"}}}}
    return {"summary": summary, "responses": {"200": answer}} | ({"tags": [*tags]} if tags else {})
