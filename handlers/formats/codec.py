"""The codec: request bytes to graph tensors, and graph outputs to response bytes, by the wire format of a request.

For JSON a URL of KServe's protocols decides the format; elsewhere the content type and the keys of the JSON do.
"""

from collections.abc import Sequence
from pathlib import Path

from handlers import json_io
from handlers.batch import Decoded, Outputs
from handlers.contract import Array, ModelContract
from handlers.features import FeatureRows, defaults_of, filled, stack
from handlers.formats import envelope, npy, oip
from handlers.formats.answers import check_top_k, output_arrays, row_answers
from handlers.formats.rows import RowDecoder
from handlers.http import accept, kserve
from handlers.message import JSON, MOST_PARTS, NPY, OCTETS, InputError, Request, Response, error_response

PROTOCOLS = ("native", "v1", "v2", "npy", "image", "openai", "unknown")
_MAGIC = {b"\x93NUM": NPY, b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_FORM = "application/x-www-form-urlencoded"
_QUERY = ("top_k", "model_name")  # the latter is TorchServe's own on /invocations


class Codec:
    """The wire formats of every model; an entry point adds those of its kind by overriding ``decode_other``."""

    accepts: tuple[str, ...] = (JSON, NPY, f"{OCTETS} (v2 binary)")

    def __init__(self, contract: ModelContract, max_rows: int) -> None:
        self.contract = contract
        self.max_rows = contract.most_rows(max_rows)
        self.names: frozenset[str] = frozenset()  # of the served model, beside the contract's
        self._rows = RowDecoder(contract, self.max_rows)
        self._nullable = any(spec.nullable for spec in contract.inputs)
        self._defaults = defaults_of(contract.inputs)

    @classmethod
    def open(cls, directory: Path, contract: ModelContract, max_rows: int) -> "Codec":
        """Return the codec of an unpacked archive; a codec that needs files overrides it."""
        return cls(contract, max_rows)

    def stack(self, decoded: Sequence[Decoded]) -> dict[str, Array]:
        """Return the graph tensors of several requests, rows in their order."""
        tensors = stack([request.data for request in decoded])
        return filled(tensors, self._defaults) if self._defaults else tensors

    def decode(self, request: Request) -> Decoded:
        """Decode one request, or raise ``InputError``."""
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
            return self._text(request, binary)
        if media_type == NPY:
            return self._npy(request)
        return self.decode_other(request, media_type)

    def decode_other(self, request: Request, media_type: str) -> Decoded:
        """Decode a body that is neither JSON nor NumPy; here always ``InputError``."""
        fault = f"content type {media_type!r}" if media_type else "no content type"
        hint = ": is the header Content-Type: application/json missing?" if media_type == _FORM else ""
        raise InputError("unsupported_media_type", fault + hint, "content-type", ", ".join(self.accepts))

    def protocol(self, request: Request) -> str:
        """Return the protocol, or the apparent one, of a refused request: one of ``PROTOCOLS``."""
        route = kserve.route(request.headers)
        media_type = request.media_type or _sniff(request.body)
        if route in (kserve.V1, kserve.V2):
            return route
        if oip.HEADER_LENGTH in request.headers:
            return "v2"
        if media_type == JSON:
            return envelope.apparent_format(request.body)
        images = media_type.startswith("image/") or media_type == "multipart/form-data"
        return "npy" if media_type == NPY else "image" if images else "unknown"

    def refuse(self, request: Request, error: InputError, cause: Exception | None = None) -> Response:
        """Return the response to an error in the form of the request's protocol; ``cause`` of a fault of ours."""
        of_kserve = kserve.route(request.headers) or self.protocol(request) in (kserve.V1, kserve.V2)
        return error_response(error, request, cause, as_text=bool(of_kserve))

    def as_rows(
        self, protocol: str, data: FeatureRows | dict[str, Array], rows: int, top_k: int, single: bool
    ) -> Decoded:
        """Return a request whose answer is ``{"prediction": …}`` if single, else ``{"predictions": […]}``."""

        def encode(outputs: Outputs) -> Response:
            answers = row_answers(self.contract, outputs, top_k)
            return Response(200, json_io.encode({"prediction": answers[0]} if single else {"predictions": answers}))

        return Decoded(protocol, rows, data, encode)

    def top_k(self, request: Request, own: int = 1) -> int:
        """Return the number of classes for a request: of its body, else of a form field or the header ``X-Top-K``.

        Args:
            own: number in the body; 1 where it has none.

        Raises:
            InputError: it is not an integer, or out of range.
        """
        if own != 1:
            return check_top_k(self.contract, own, "$.parameters.top_k")
        where = "top_k" if "top_k" in request.form else "x-top-k"
        text = request.form["top_k"].decode("ascii", "replace") if where == "top_k" else request.headers.get(where, "1")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InputError("invalid_parameter", f"top_k is {text!r}", where, "an integer")
        return check_top_k(self.contract, int(text), where)

    def _text(self, request: Request, binary: bool) -> Decoded:
        """Decode JSON, alone or before binary tensors; NaN is null to the inputs that may be."""
        decode = self._tensors if binary else self._json
        if not (self._nullable and b"NaN" in request.body):
            return decode(request)
        text, tensors = oip.split(request.body, request.headers)
        plain = json_io.nan_to_null(text)
        headers = {**request.headers, oip.HEADER_LENGTH: str(len(plain))} if binary else request.headers
        try:
            return decode(request._replace(body=plain + tensors, headers=headers))
        except InputError as error:
            raise json_io.nan_fault(text, error) from None

    def _json(self, request: Request) -> Decoded:
        body, route = request.body, kserve.route(request.headers)
        protocol = envelope.guess_format(body, route)
        if protocol == kserve.V2:
            return self._tensors(request)
        rows = self._rows.attempt(body, protocol) if protocol else None
        if rows is None:  # it has another format, or a fault
            protocol = envelope.read_format(body, route)
            if protocol == kserve.V2:
                return self._tensors(request)
            rows = self._rows.decode(body, protocol)
        top_k = self.top_k(request, rows.top_k)
        return self.as_rows(protocol, rows.data, rows.rows, top_k, single=protocol == envelope.NATIVE)

    def _tensors(self, request: Request) -> Decoded:
        if kserve.route(request.headers) == kserve.V1:  # v1 has no tensors
            expected = envelope.EXPECTED[kserve.V1]
            raise InputError("missing_field", "the URL is one of v1, the body is not", expected=expected)
        decoded = oip.decode(self.contract, request.body, request.headers, self.max_rows, self.names)
        top_k = self.top_k(request, decoded.top_k)

        def encode(outputs: Outputs) -> Response:
            return oip.encode(self.contract, decoded, output_arrays(self.contract, outputs, top_k))

        return Decoded(kserve.V2, decoded.rows, decoded.tensors, encode)

    def _npy(self, request: Request) -> Decoded:
        tensors, rows = npy.decode(self.contract, request.body, self.max_rows)
        several = len(self.contract.graph_outputs) > 1 or self.contract.finds_entities  # an array cannot hold them
        if several or accept.choose(request.headers.get("accept", ""), (JSON, NPY)) == JSON:
            return self.as_rows("npy", tensors, rows, self.top_k(request), single=False)

        def encode(outputs: Outputs) -> Response:
            return Response(200, npy.encode(outputs[self.contract.graph_outputs[0]]), NPY)

        return Decoded("npy", rows, tensors, encode)


def _sniff(body: bytes) -> str:
    """Return the media type of a body sent without one, as ``curl -T`` does."""
    if body.lstrip()[:1] in (b"{", b"["):
        return JSON
    return next((media_type for magic, media_type in _MAGIC.items() if body.startswith(magic)), "")


def _check_query(names: Sequence[str]) -> None:
    """Raise ``InputError`` for a query parameter that would be ignored: it is unknown, or stands twice."""
    for i, name in enumerate(names):
        if name not in _QUERY or name in names[:i]:
            fault = f"query parameter {name!r}" + (" stands twice" if name in _QUERY else "")
            raise InputError("invalid_parameter", fault, "query", f"{' and '.join(_QUERY)}, each once")
