"""``GET /docs``: a page of every call of the monitor, made from its OpenAPI document."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from monitoring.console.pages import Pages
from monitoring.console.route import route_with

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """A parameter of a call, or a member of its body.

    Attributes:
        place: such as ``query``; empty for a member.
        kind: type in words, such as ``integer or null``.
    """

    name: str
    place: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        needs_token: whether it changes something.
        media_type: type of its body; empty if it has none.
        members: members of its body.
        answers: meaning of each status.
    """

    method: str
    path: str
    description: str
    needs_token: bool
    parameters: Sequence[Value]
    media_type: str
    members: Sequence[Value]
    answers: Mapping[str, str]

    @property
    def anchor(self) -> str:
        """Return the fragment of the page by which links point to the call."""
        return re.sub(r"\W+", "-", f"{self.method} {self.path}").strip("-").lower()


def calls_router(pages: Pages) -> APIRouter:
    """Return the route, and one that redirects FastAPI's default page to it."""
    router = APIRouter(route_class=route_with(pages), include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        description: Schema = request.app.openapi()
        return HTMLResponse(pages.render("calls.html", calls=list(calls_of(description))))

    @router.get("/redoc")
    async def redoc() -> RedirectResponse:
        return RedirectResponse("/docs")

    return router


def calls_of(description: Schema) -> Iterator[Call]:
    """Yield the calls that an OpenAPI document describes."""
    schemas: Schema = description.get("components", {}).get("schemas", {})
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            content: Mapping[str, Schema] = operation.get("requestBody", {}).get("content", {})
            media_type = next(iter(content), "")
            schema = content[media_type].get("schema", {}) if media_type else {}
            yield Call(
                method.upper(),
                path,
                operation.get("description", operation.get("summary", "")),
                bool(operation.get("security")),
                [_parameter(parameter) for parameter in operation.get("parameters", ())],
                media_type,
                list(_members(schema, schemas)),
                {status: answer["description"] for status, answer in operation["responses"].items()},
            )


def _parameter(parameter: Schema) -> Value:
    kind = kind_of(parameter["schema"])
    return Value(
        parameter["name"], parameter["in"], kind, parameter.get("required", False), parameter.get("description", "")
    )


def _members(schema: Schema, schemas: Schema) -> Iterator[Value]:
    """Yield the members of a body, or of each entry of its list."""
    for option in _options(schema):
        resolved = schemas.get(option.get("$ref", "").rpartition("/")[2], option)
        if "properties" not in resolved:
            continue
        for name, member in resolved["properties"].items():
            required = name in resolved.get("required", ())
            yield Value(name, "", kind_of(member), required, member.get("description", ""))
        return


def _options(schema: Schema) -> Iterator[Schema]:
    for option in schema.get("anyOf", (schema,)):
        yield option["items"] if option.get("type") == "array" and "items" in option else option


def kind_of(schema: Schema) -> str:
    """Return the type of a schema in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    return str(schema.get("type") or schema.get("const") or schema.get("$ref", "anything").rpartition("/")[2])
