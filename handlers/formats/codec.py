"""Request bytes to graph tensors, and graph outputs to response bytes: which wire format a request is in.

A URL of KServe's protocols decides it for JSON; elsewhere the content type and the keys of the JSON tell.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import UNSET, Raw, UnsetType

from handlers import json_io
from handlers.batch import Decoded, Outputs
from handlers.contract import Array, ModelContract
from handlers.features import FeatureRows, stack
from handlers.formats import npy, oip
from handlers.formats.answers import check_top_k, output_arrays, row_answers
from handlers.formats.rows import RowDecoder
from handlers.http import accept, kserve
from handlers.message import JSON, MOST_PARTS, NPY, OCTETS, InputError, Request, Response, error_response


class _Envelope(msgspec.Struct):
    instances: Raw | UnsetType = UNSET
    inputs: Raw | UnsetType = UNSET


_MEMBERS = {
    kserve.V1: (b'"instances"',),
    kserve.V2: (b'"inputs"',),
    kserve.EITHER: (b'"instances"', b'"inputs"'),
}
_EXPECTED = {
    kserve.V1: 'an object with "instances", as KServe v1 has it',
    kserve.V2: 'an object with "inputs", as the Open Inference Protocol v2 has it',
    kserve.EITHER: 'an object with "instances" or "inputs", as KServe v1 and the Open Inference Protocol v2 have it',
}
_KEYS = {b'"instances"': "v1", b'"datatype"': "v2"}
PROTOCOLS = ("native", "v1", "v2", "npy", "image", "openai", "unknown")
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_MAGIC = {b"\x93NUM": NPY, b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_FORM = "application/x-www-form-urlencoded"
_QUERY = ("top_k", "model_name")  # the latter is TorchServe's own on /invocations


class Codec:
    """The wire formats of every model; an entry point adds those of its kind by overriding ``decode_other``."""

    accepts: tuple[str, ...] = (JSON, NPY, f"{OCTETS} (v2 binary)")

    def __init__(self, contract: ModelContract, max_rows: int) -> None:
        self.contract = contract
        self.max_rows = max_rows
        self.names: frozenset[str] = frozenset()  # by which the model is served beside its own
        self._rows = RowDecoder(contract, max_rows)

    @classmethod
    def open(cls, directory: Path, contract: ModelContract, max_rows: int) -> "Codec":
        """The codec of an archive that is unpacked in a folder; an entry point whose codec needs files overrides it."""
        return cls(contract, max_rows)

    def stack(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        """The graph tensors of several requests, rows in their order."""
        return stack([one.data for one in decoded])

    def decode(self, request: Request) -> Decoded:
        """Decode one request.

        Raises:
            InputError: the request cannot be answered, and why.
        """
        if request.headers.get("explain") == "True":
            raise InputError("not_supported", "explanations are not offered", expected="a prediction route")
        if len(request.parts) > MOST_PARTS:
            raise InputError("invalid_form", "the form has too many parts", "form", f"at most {MOST_PARTS} parts")
        media_type = request.media_type or _sniff(request.body)
        if not (request.body or request.form or media_type == _FORM):
            raise InputError("empty", "the body is empty", expected=", ".join(self.accepts))
        if request.parts and media_type != _FORM and not media_type.startswith("multipart/"):
            _check_query([part.name for part in request.parts])
        binary = oip.HEADER_LENGTH in request.headers
        if media_type == OCTETS and binary or media_type == JSON:
            return self._tensors(request) if binary else self._json(request)
        if media_type == NPY:
            return self._npy(request)
        return self.decode_other(request, media_type)

    def decode_other(self, request: Request, media_type: str) -> Decoded:
        """Decode a body that is neither JSON nor NumPy; here there is none.

        Raises:
            InputError: always.
        """
        found = f"content type {media_type!r}" if media_type else "no content type"
        hint = ": is the header Content-Type: application/json missing?" if media_type == _FORM else ""
        raise InputError("unsupported_media_type", found + hint, "content-type", ", ".join(self.accepts))

    def protocol(self, request: Request) -> str:
        """What a request that was refused is written in, or seems to be: one of ``PROTOCOLS``."""
        route = kserve.route(request.headers)
        media_type = request.media_type or _sniff(request.body)
        if route in (kserve.V1, kserve.V2):
            return route
        if oip.HEADER_LENGTH in request.headers:
            return "v2"
        if media_type == JSON:
            return _json_protocol(request.body)
        images = media_type.startswith("image/") or media_type == "multipart/form-data"
        return "npy" if media_type == NPY else "image" if images else "unknown"

    def refuse(self, request: Request, error: InputError, cause: Exception | None = None) -> Response:
        """Tell a client of an error in the form of its protocol.

        Args:
            request: that cannot be answered.
            error: why.
            cause: what was raised when the fault is ours.
        """
        of_kserve = kserve.route(request.headers) or self.protocol(request) in (kserve.V1, kserve.V2)
        return error_response(error, request, cause, as_text=bool(of_kserve))

    def as_rows(
        self, protocol: str, data: FeatureRows | dict[str, Array], rows: int, top_k: int, single: bool
    ) -> Decoded:
        """A request whose answer is ``{"prediction": …}`` if single, else ``{"predictions": […]}``."""

        def encode(outputs: Outputs) -> Response:
            answers = row_answers(self.contract, outputs, top_k)
            return Response(200, json_io.encode({"prediction": answers[0]} if single else {"predictions": answers}))

        return Decoded(protocol, rows, data, encode)

    def top_k(self, request: Request) -> int:
        """The ``top_k`` of a request whose body has no place for it: a form field, or the header ``X-Top-K``.

        Raises:
            InputError: it is not an integer, or out of range.
        """
        where = "top_k" if "top_k" in request.form else "x-top-k"
        text = request.form["top_k"].decode("ascii", "replace") if where == "top_k" else request.headers.get(where, "1")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InputError("invalid_parameter", f"top_k is {text!r}", where, "an integer")
        return check_top_k(self.contract, int(text), where)

    def _json(self, request: Request) -> Decoded:
        body, route = request.body, kserve.route(request.headers)
        json_io.check_utf8(body)
        if route and not any(key in body for key in _MEMBERS[route]):
            _check_route(route, json_io.decode(_ENVELOPE, body, lambda _: "an object"))
        if route == kserve.V2:
            return self._tensors(request)
        single = route != kserve.V1 and b'"instances"' not in body
        # Most texts are what they seem to be. Those that are not are of another format, or at fault.
        rows = None if b'"datatype"' in body or (route and single) else self._rows.attempt(body, single)
        if rows is None:
            envelope = json_io.decode(_ENVELOPE, body, lambda _: "an object")
            if route:
                _check_route(route, envelope)
            single = route != kserve.V1 and envelope.instances is UNSET
            if single and envelope.inputs is not UNSET and (route or _holds_objects(envelope.inputs)):
                return self._tensors(request)
            rows = self._rows.native(body) if single else self._rows.v1(body)
        top_k = rows.top_k if rows.top_k != 1 else self.top_k(request)
        check_top_k(self.contract, top_k, "$.parameters.top_k")
        return self.as_rows("native" if single else "v1", rows.data, rows.rows, top_k, single)

    def _tensors(self, request: Request) -> Decoded:
        if kserve.route(request.headers) == kserve.V1:  # which has no tensors, and no binary ones behind its JSON
            raise InputError("missing_field", "the URL is one of v1, the body is not", expected=_EXPECTED[kserve.V1])
        decoded = oip.decode(self.contract, request.body, request.headers, self.max_rows, self.names)
        if decoded.top_k == 1:
            decoded = decoded._replace(top_k=self.top_k(request))
        check_top_k(self.contract, decoded.top_k, "$.parameters.top_k")

        def encode(outputs: Outputs) -> Response:
            return oip.encode(self.contract, decoded, output_arrays(self.contract, outputs, decoded.top_k))

        return Decoded("v2", decoded.rows, decoded.tensors, encode)

    def _npy(self, request: Request) -> Decoded:
        tensors, rows = npy.decode(self.contract, request.body, self.max_rows)
        if accept.choose(request.headers.get("accept", ""), (JSON, NPY)) == JSON:
            return self.as_rows("npy", tensors, rows, self.top_k(request), single=False)

        def encode(outputs: Outputs) -> Response:
            return Response(200, npy.encode(outputs[self.contract.graph_outputs[0]]), NPY)

        return Decoded("npy", rows, tensors, encode)


def _sniff(body: bytes) -> str:
    """The media type of a body sent without one, as ``curl -T`` does."""
    if body.lstrip()[:1] in (b"{", b"["):
        return JSON
    return next((media_type for magic, media_type in _MAGIC.items() if body.startswith(magic)), "")


def _check_route(route: str, envelope: _Envelope) -> None:
    """Refuse a body that has no member of the protocol that its URL names.

    Raises:
        InputError: with the member that it should have.
    """
    has = {kserve.V1: envelope.instances is not UNSET, kserve.V2: envelope.inputs is not UNSET}
    if not has.get(route, any(has.values())):
        raise InputError("missing_field", f"the URL is one of {route}, the body is not", expected=_EXPECTED[route])


def _check_query(names: Sequence[str]) -> None:
    """Refuse query parameters, where the route passes them, that would be ignored.

    Raises:
        InputError: one that is not known, or stands twice.
    """
    for i, name in enumerate(names):
        if name not in _QUERY or name in names[:i]:
            found = f"query parameter {name!r}" + (" stands twice" if name in _QUERY else "")
            raise InputError("invalid_parameter", found, "query", f"{' and '.join(_QUERY)}, each once")


def _json_protocol(body: bytes) -> str:
    """The protocol of a JSON text by its keys, or, where it is no object, by what looks like them."""
    try:
        envelope = _ENVELOPE.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return next((name for key, name in _KEYS.items() if key in body), "native")
    if envelope.instances is not UNSET:
        return "v1"
    return "v2" if envelope.inputs is not UNSET and _holds_objects(envelope.inputs) else "native"


def _holds_objects(array: Raw) -> bool:
    text = bytes(array).lstrip()
    return text[:1] == b"[" and text[1:].lstrip()[:1] == b"{"
