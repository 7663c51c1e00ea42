"""What a request holds its answer to: OpenAI's ``response_format``, and the names that vLLM has beside it."""

from typing import Any

import msgspec

from handlers.language.generation import Constraint
from handlers.message import InputError

MOST_BYTES = 64 * 1024  # of a schema, an expression or a choice
# Most white space between values: otherwise a small model may go on with it for ever.
SPACE = r"[\x20\x0A\x0D\x09]{0,16}"
OBJECT = '{"type":"object"}'
FORMS = '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": {…}}}'


class JsonSchema(msgspec.Struct):
    """A named schema; it is held to whether ``strict`` or not."""

    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """The form of the text: ``text``, ``json_object`` or ``json_schema``; ``schema`` is llama.cpp's."""

    type: str
    json_schema: JsonSchema | None = None
    schema: dict[str, Any] | None = None


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """Newer vLLM's form of ``guided_json``, ``guided_regex`` and ``guided_choice``."""

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: list[str] | None = None


class Constrained(msgspec.Struct, kw_only=True):
    """The parameters of a request that hold its answer to something."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None


def constraint_of(parameters: Constrained) -> Constraint | None:
    """Return what an answer is held to; None for free text.

    Raises:
        InputError: the form is unknown or incomplete, two are given, or one is too long.
    """
    outputs = parameters.structured_outputs or StructuredOutputs()
    given = [
        _of_format(parameters.response_format),
        schema_constraint(outputs.json, "$.structured_outputs.json"),
        _regex(outputs.regex, "$.structured_outputs.regex"),
        _choice(outputs.choice, "$.structured_outputs.choice"),
        schema_constraint(parameters.guided_json, "$.guided_json"),
        _regex(parameters.guided_regex, "$.guided_regex"),
        _choice(parameters.guided_choice, "$.guided_choice"),
    ]
    constraints = [constraint for constraint in given if constraint]
    if len(constraints) > 1:
        message = f"the answer is held to two things, also to {constraints[1].path.removeprefix('$.')}"
        raise InputError("invalid_parameter", message, constraints[0].path, "one of them")
    return next(iter(constraints), None)


def _of_format(form: ResponseFormat | None) -> Constraint | None:
    path = "$.response_format"
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return schema_constraint(form.schema, f"{path}.schema") or Constraint("json_schema", OBJECT, path)
    if form.type != "json_schema":
        raise InputError("unsupported_value", f"response_format {form.type!r} is not offered", path, FORMS)
    if form.json_schema is None or form.json_schema.schema is None:
        raise InputError("missing_field", "json_schema has no schema", f"{path}.json_schema.schema", FORMS)
    return schema_constraint(form.json_schema.schema, f"{path}.json_schema.schema")


def schema_constraint(schema: dict[str, Any] | str | None, path: str) -> Constraint | None:
    """Return what holds an answer to a JSON schema; None without one.

    Args:
        path: JSON path of the schema in the request.

    Raises:
        InputError: it is no JSON object, or too long.
    """
    if schema is None:
        return None
    text = schema if isinstance(schema, str) else msgspec.json.encode(schema).decode()
    if not text.lstrip().startswith("{"):
        raise InputError("wrong_type", "the schema is no JSON object", path, "a JSON schema")
    return _checked(Constraint("json_schema", text, path))


def _regex(pattern: str | None, path: str) -> Constraint | None:
    return None if pattern is None else _checked(Constraint("regex", pattern, path))


def _choice(words: list[str] | None, path: str) -> Constraint | None:
    if words is None:
        return None
    if not words or "" in words:
        raise InputError("empty", "there is nothing to choose", path, "strings of at least one character")
    return _checked(Constraint("choice", msgspec.json.encode(words).decode(), path))


def _checked(constraint: Constraint) -> Constraint:
    if len(constraint.text.encode()) > MOST_BYTES:
        raise InputError("out_of_range", "it is too long", constraint.path, f"at most {MOST_BYTES // 1024} KiB")
    return constraint
