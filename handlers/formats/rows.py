"""The native and KServe v1 formats: rows in JSON, one or many.

Native: ``{"distance": 1400, …}`` or ``{"inputs": […]}`` -> ``{"prediction": P}``.
KServe v1 (its "Predict Protocol"): ``{"instances": [row, …]}`` -> ``{"predictions": [P, …]}`` in order.
Both take ``"parameters": {"top_k": k}``.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from handlers import json_io
from handlers.contract import Array, ModelContract, TensorSpec
from handlers.contract.times import Moment, as_seconds
from handlers.features import FeatureRows, Features, as_tensors
from handlers.formats.envelope import NATIVE
from handlers.formats.tensors import check_axes, json_array, json_type, limits, to_tensor, unknown_category
from handlers.http.kserve import V1
from handlers.message import InputError

_LAST_NAME = re.compile(r"([A-Za-z_]\w*)(?:\[\d+\])*$")


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Options of a request."""

    top_k: int | json_io.WholeFloat | None = None


class Rows(NamedTuple):
    """Decoded rows, as graph tensors or still as rows of features."""

    data: FeatureRows | dict[str, Array]
    rows: int
    top_k: int

    @property
    def tensors(self) -> dict[str, Array]:
        """Graph tensors by input."""
        return as_tensors(self.data)


class _Form(NamedTuple):
    """Functions of a format: decode its text, count the members, make rows."""

    decoder: msgspec.json.Decoder[Any]
    members: Callable[[Any], int]
    rows: Callable[[Any], Rows]


class RowDecoder:
    """Decoders of both formats, made once from a contract."""

    def __init__(self, contract: ModelContract, max_rows: int) -> None:
        self._contract = contract
        self._specs = {spec.name: spec for spec in contract.inputs}
        self._max_rows = max_rows
        self._scalars = {spec.name: Features([spec]) for spec in contract.inputs if Features.fit([spec])}
        self._features = Features(contract.inputs) if Features.fit(contract.inputs) else None
        parameters: Any = ("parameters", Parameters | None, None)
        if contract.has_named_rows:
            fields: Any = [_field(spec) for spec in contract.inputs]
            row: Any = msgspec.defstruct("Row", fields, forbid_unknown_fields=True, kw_only=True)
            native = msgspec.defstruct("NativeRow", [*fields, parameters], forbid_unknown_fields=True, kw_only=True)
        else:
            row = _value_type(contract.inputs[0])
            native = msgspec.defstruct("NativeTensor", [("inputs", row), parameters], forbid_unknown_fields=True)
        instances: Any = Annotated[list[row], Meta(min_length=1, max_length=max_rows)]
        v1 = msgspec.defstruct("V1", [("instances", instances), parameters], forbid_unknown_fields=True)
        self._members = len(contract.inputs) if contract.has_named_rows else 1  # of a row
        self._forms = {
            NATIVE: _Form(msgspec.json.Decoder(native), self._native_members, self._native_rows),
            V1: _Form(msgspec.json.Decoder(v1), self._v1_members, self._v1_rows),
        }
        if nullable := [spec.name for spec in contract.inputs if spec.nullable]:
            self._forms = {protocol: _sparse(form, nullable) for protocol, form in self._forms.items()}

    def attempt(self, body: bytes, protocol: str) -> Rows | None:
        """Decode a row of the native format, or many of v1; None if the text has another format.

        Raises:
            InputError: it has the format, but a key stands twice or a value is out of range.
        """
        form = self._forms[protocol]
        request = json_io.attempt(form.decoder, body, form.members)
        return None if request is None else form.rows(request)

    def decode(self, body: bytes, protocol: str) -> Rows:
        """Decode a row of the native format, or many of v1.

        Raises:
            InputError: not of the contract.
        """
        form = self._forms[protocol]
        try:
            request = json_io.decode_strictly(form.decoder, body, self._describe, form.members)
        except InputError as error:
            raise self._refine(error) from None
        return form.rows(request)

    def _native_members(self, request: Any) -> int:
        return self._members + _parameter_members(request.parameters)

    def _native_rows(self, request: Any) -> Rows:
        named = self._contract.has_named_rows
        row = request if named else request.inputs
        return Rows(self._data([row], "$" if named else "$.inputs", single=True), 1, _top_k(request.parameters))

    def _v1_members(self, request: Any) -> int:
        own = len(request.instances) * self._members if self._contract.has_named_rows else 0
        return 1 + own + _parameter_members(request.parameters)

    def _v1_rows(self, request: Any) -> Rows:
        data = self._data(request.instances, "$.instances")
        return Rows(data, len(request.instances), _top_k(request.parameters))

    def _refine(self, error: InputError) -> InputError:
        """Return a clearer error: a wrong length is a wrong number of rows, and the closest categories are named."""
        if error.path == "$.instances" and error.code == "wrong_shape":
            if json_io.is_too_short(error):
                return InputError("empty", "instances is empty", error.path, f"1 to {self._max_rows} rows")
            return InputError("too_many_rows", "too many rows", error.path, f"at most {self._max_rows} rows")
        if error.code == "unknown_category":
            spec = self._spec_at(error.path)
            return unknown_category(spec, json_io.refused_value(error), error.path) if spec else error
        return error

    def _spec_at(self, path: str) -> TensorSpec | None:
        name = _LAST_NAME.search(path)
        if not self._contract.has_named_rows:  # the only tensor has no name in a request
            return self._contract.inputs[0] if name and name[1] in ("inputs", "instances") else None
        return self._specs.get(name[1]) if name else None

    def _describe(self, path: str) -> str:
        spec = self._spec_at(path)
        if spec:
            return spec.describe()
        if path.endswith(".top_k"):
            return "an integer"
        named = ", ".join(self._specs)
        return f"an object with {named}" if self._contract.has_named_rows else 'an object with "inputs" or "instances"'

    def _data(self, rows: list[Any], path: str, single: bool = False) -> FeatureRows | dict[str, Array]:
        if self._features:
            return FeatureRows(self._features, rows)
        if not self._contract.has_named_rows:
            spec = self._contract.inputs[0]
            return {spec.name: _array(spec, rows, [path] if single else path)}
        tensors = {spec.name: self._column(spec, rows, path, single) for spec in self._contract.inputs}
        check_axes(self._contract.inputs, tensors, path)
        return tensors

    def _column(self, spec: TensorSpec, rows: list[Any], path: str, single: bool) -> Array:
        if spec.name in self._scalars:
            return self._scalars[spec.name].tensors(rows)[spec.name]
        values = [getattr(row, spec.name) for row in rows]
        if spec.timestamp:
            values = [as_seconds(value) for value in values]
            values = [math.floor(value) for value in values] if spec.datatype == "INT64" else values
        paths = [f"{path}.{spec.name}"] if single else [f"{path}[{i}].{spec.name}" for i in range(len(rows))]
        return _array(spec, values, paths)


def _sparse(form: _Form, nullable: Sequence[str]) -> _Form:
    """Return a form that counts no nulls, which may stand for keys that a row lacks."""

    def members(request: Any) -> int:
        rows = getattr(request, "instances", [request])
        return form.members(request) - sum(getattr(row, name) is None for row in rows for name in nullable)

    return form._replace(members=members)


def _parameter_members(parameters: Parameters | None) -> int:
    return 0 if parameters is None else 1 + (parameters.top_k is not None)


def _top_k(parameters: Parameters | None) -> int:
    return 1 if parameters is None or parameters.top_k is None else int(parameters.top_k)


def _array(spec: TensorSpec, values: Any, paths: str | list[str]) -> Array:
    """Return rows of nested lists, whose lengths are checked, as an array; ``paths`` for all rows or for each."""
    if isinstance(paths, str):
        return to_tensor(spec, json_array(spec, values, paths), paths)
    rows = [to_tensor(spec, json_array(spec, row, path), path) for row, path in zip(values, paths, strict=True)]
    for row, path in zip(rows, paths, strict=True):
        if row.shape != rows[0].shape:
            fault = f"{spec.name} has shape {list(row.shape)}, in another row {list(rows[0].shape)}"
            raise InputError("wrong_shape", fault, path, "the same shape in all rows of a request")
    return np.stack(rows) if len(rows) > 1 else rows[0][None]


def _field(spec: TensorSpec) -> Any:
    return (spec.name, _value_type(spec) | None, None) if spec.nullable else (spec.name, _value_type(spec))


def _value_type(spec: TensorSpec) -> Any:
    """Return msgspec's type for a tensor's value in a row."""
    value: Any = _scalar_type(spec)
    for size, most in zip(reversed(spec.shape[1:]), reversed(spec.largest), strict=True):
        value = Annotated[list[value], Meta(min_length=1 if size == -1 else size, max_length=most)]
    return value


def _scalar_type(spec: TensorSpec) -> Any:
    if spec.timestamp:  # seconds, as they were captured, or a text
        return _scalar_type(msgspec.structs.replace(spec, timestamp=False, range=limits(spec))) | Moment
    if spec.categories:
        return Literal[spec.categories]
    # An array's range is checked as a whole, and msgspec has no limit beyond INT64.
    if spec.datatype in ("BYTES", "BOOL", "UINT64") or not spec.is_scalar:
        return json_type(spec.datatype)
    low, high = limits(spec)
    if spec.is_float:
        return Annotated[float, Meta(ge=float(low), le=float(high))]
    return json_io.whole_number(int(low), int(high))
