"""The form that tries a model out: its fields from the contract, and a native request from what was typed."""

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec
import numpy as np
from PIL import Image

from handlers.contract import ModelContract, TensorSpec

Kind = Literal["number", "switch", "choice", "text", "picture", "json"]


class FormError(Exception):
    """What was typed is no value of its field; the message names the field."""


@dataclass(frozen=True)
class Field:
    """One input of the model.

    Attributes:
        value: of the contract's example, as it is typed; of a picture its ``data:`` address.
        step: of a number: 1 or any.
    """

    spec: TensorSpec
    kind: Kind
    value: str

    @property
    def step(self) -> str:
        """Of a number."""
        return "any" if self.spec.datatype.startswith("FP") else "1"


def fields(contract: ModelContract) -> list[Field]:
    """The fields of a contract, filled with its example."""
    return [_field(contract, spec) for spec in contract.inputs]


def is_picture(contract: ModelContract) -> bool:
    """Whether the only input is bytes of the shape of a picture, grey or of three colours."""
    shapes = [spec.shape for spec in contract.inputs]
    return contract.inputs[0].datatype == "UINT8" and (len(shapes) == 1) and _is_pictures(shapes[0])


def parse(body: bytes) -> dict[str, str]:
    """The fields of a form as ``application/x-www-form-urlencoded``.

    Raises:
        FormError: it is none.
    """
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000))
    except ValueError as error:
        raise FormError(f"The form cannot be read: {error}.") from None


def request_of(contract: ModelContract, typed: Mapping[str, str]) -> dict[str, Any]:
    """A native request.

    Args:
        contract: names the inputs; whether a value is in its range is the model's to say.
        typed: by name of the input.

    Raises:
        FormError: a field is missing, or its value no number, no truth value or no JSON.
    """
    row = {spec.name: _value(kind_of(contract, spec), spec, typed) for spec in contract.inputs}
    return row if contract.has_named_rows else {"inputs": row[contract.inputs[0].name]}


def kind_of(contract: ModelContract, spec: TensorSpec) -> Kind:
    """How a value of an input is typed."""
    if is_picture(contract):
        return "picture"
    if not spec.is_scalar:
        return "json"
    if spec.categories:
        return "choice"
    if spec.datatype == "BYTES":
        return "text"
    return "switch" if spec.datatype == "BOOL" else "number"


def _field(contract: ModelContract, spec: TensorSpec) -> Field:
    kind = kind_of(contract, spec)
    example = contract.example.request.get(spec.name if contract.has_named_rows else "inputs")
    if example is None:
        return Field(spec, kind, "")
    if kind == "picture":
        return Field(spec, kind, _png(example))
    if kind in ("choice", "text"):
        return Field(spec, kind, str(example))
    text = msgspec.json.encode(example).decode()
    return Field(spec, kind, text.removesuffix(".0") if kind == "number" else text)


def _value(kind: Kind, spec: TensorSpec, typed: Mapping[str, str]) -> Any:
    if spec.name not in typed:
        raise FormError(f"{spec.name} is missing.")
    text = typed[spec.name]
    if kind in ("choice", "text"):
        return text
    try:
        if kind == "number":
            value: Any = float(text) if spec.datatype.startswith("FP") else int(text)
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


def _is_pictures(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)


def _png(pixels: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
