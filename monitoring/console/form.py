"""The form that tries a model: its fields from the contract, and a native request from the typed values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from handlers.contract import ModelContract, TensorSpec
from handlers.contract.pictures import describe
from handlers.formats.pictures import NAMES, png_address
from handlers.formats.requests import native_member, native_request

Kind = Literal["number", "switch", "choice", "text", "picture", "json"]


class FormError(Exception):
    """A typed text is no value of its field; the message names the field."""


@dataclass(frozen=True)
class Field:
    """One input of the model.

    Attributes:
        value: text of the contract's example; of a picture its ``data:`` address.
    """

    spec: TensorSpec
    kind: Kind
    value: str

    @property
    def step(self) -> str:
        """Return the step of a number's input field, ``1`` or ``any``."""
        return "any" if self.spec.is_float else "1"

    @property
    def about(self) -> str:
        """Return words for a valid value."""
        spec = self.spec
        if self.kind != "picture":
            return spec.describe()
        if spec.picture:
            return f"{describe(spec.picture, spec.shape[1:3], spec.background)}; {NAMES}"
        return f"a PNG or JPEG file; {spec.shape[2]}×{spec.shape[1]} pixels are looked at"


def fields(contract: ModelContract) -> list[Field]:
    """Return the fields of a contract, filled with its example."""
    return [_field(contract, spec) for spec in contract.inputs]


def is_picture(contract: ModelContract) -> bool:
    """Return whether the only input is a picture, or bytes in the shape of one, grey or of three colours."""
    (first, *others) = contract.inputs
    return not others and (first.picture is not None or (first.datatype == "UINT8" and first.is_picture))


def parse(body: bytes) -> dict[str, str]:
    """Decode the fields of a form, ``application/x-www-form-urlencoded``.

    Raises:
        FormError: the body is no such form.
    """
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000))
    except ValueError as error:
        raise FormError(f"The form cannot be read: {error}.") from None


def request_of(contract: ModelContract, typed: Mapping[str, str]) -> dict[str, Any]:
    """Return a native request; the model itself checks the ranges of its values.

    Args:
        typed: typed texts by name of the input.

    Raises:
        FormError: a field is missing, or its value no number, no truth value or no JSON.
    """
    row = {spec.name: _value(kind_of(contract, spec), spec, typed) for spec in contract.inputs}
    return native_request(contract, row)


def kind_of(contract: ModelContract, spec: TensorSpec) -> Kind:
    """Return the kind of an input's field."""
    if is_picture(contract):
        return "picture"
    if not spec.is_scalar:
        return "json"
    if spec.categories:
        return "choice"
    if spec.datatype == "BYTES" or spec.timestamp:
        return "text"
    return "switch" if spec.datatype == "BOOL" else "number"


def _field(contract: ModelContract, spec: TensorSpec) -> Field:
    kind = kind_of(contract, spec)
    example = contract.example.request.get(native_member(contract, spec))
    if example is None:
        return Field(spec, kind, "")
    if kind == "picture":
        return Field(spec, kind, png_address(example))
    if kind in ("choice", "text"):
        return Field(spec, kind, str(example))
    text = msgspec.json.encode(example).decode()
    return Field(spec, kind, text.removesuffix(".0") if kind == "number" else text)


def _value(kind: Kind, spec: TensorSpec, typed: Mapping[str, str]) -> Any:
    if spec.name not in typed:
        raise FormError(f"{spec.name} is missing.")
    text = typed[spec.name]
    if spec.nullable and not text:
        return None
    if kind in ("choice", "text"):
        return text
    try:
        if kind == "number":
            value: Any = float(text) if spec.is_float else int(text)
            if math.isfinite(value):
                return value
        elif kind == "switch" and text in ("true", "false"):
            return text == "true"
        elif kind == "json":
            return msgspec.json.decode(text)
    except (ValueError, msgspec.DecodeError):
        pass
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    raise FormError(f"{spec.name} is {shown!r}; it must be {spec.describe()}.")
