"""Request bytes to graph tensors, and graph outputs to response bytes: which wire format a request is in.

Every route reaches the same code, so the format is told by the content type and by the keys of the JSON.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from handlers import json_input, json_output, npy, oip
from handlers.answers import check_top_k, output_arrays, row_answers
from handlers.contract import ModelContract
from handlers.features import FeatureRows, as_tensors, stack
from handlers.message import JSON, MOST_PARTS, NPY, OCTETS, InputError, Request, Response
from handlers.rows import RowDecoder
from handlers.tensors import Array

Outputs = Mapping[str, Array]


class Decoded(NamedTuple):
    """A request ready to be stacked with others.

    Attributes:
        data: graph tensors, or rows of features that become tensors once they are stacked.
        rows: number of rows.
        protocol: of ``PROTOCOLS``, but not ``unknown``.
        encode: turns the graph's outputs for these rows into the response.
        sent: what the client sent, where ``data`` no longer tells it.
    """

    data: FeatureRows | dict[str, Array]
    rows: int
    protocol: str
    encode: Callable[[Outputs], Response]
    sent: dict[str, Array] | None = None

    @property
    def tensors(self) -> dict[str, Array]:
        """One graph tensor an input, each with ``rows`` rows."""
        return as_tensors(self.data)


class _Envelope(msgspec.Struct):
    instances: Raw | UnsetType = UNSET
    inputs: Raw | UnsetType = UNSET


PROTOCOLS = ("native", "v1", "v2", "npy", "image", "openai", "unknown")
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_MAGIC = {b"\x93NUM": NPY, b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_FORM = "application/x-www-form-urlencoded"


class Codec:
    """The wire formats of every model; an entry point adds those of its kind by overriding ``decode_other``."""

    accepts: tuple[str, ...] = (JSON, NPY, f"{OCTETS} (v2 binary)")

    def __init__(self, contract: ModelContract, max_rows: int) -> None:
        self.contract = contract
        self.max_rows = max_rows
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
        if request.headers.get("content-encoding", "identity") != "identity":
            raise InputError("unsupported_media_type", "the body is compressed", "content-encoding", "no compression")
        if request.headers.get("explain") == "True":
            raise InputError("not_supported", "explanations are not offered", expected="a prediction route")
        if len(request.parts) > MOST_PARTS:
            raise InputError("invalid_form", "the form has too many parts", "form", f"at most {MOST_PARTS} parts")
        media_type = request.media_type or _sniff(request.body)
        if not (request.body or request.form or media_type == _FORM):
            raise InputError("empty", "the body is empty", expected=", ".join(self.accepts))
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
        """What a request that was refused seems to be written in, one of ``PROTOCOLS``."""
        media_type = request.media_type or _sniff(request.body)
        if oip.HEADER_LENGTH in request.headers:
            return "v2"
        if media_type == JSON:
            keys = {b'"instances"': "v1", b'"datatype"': "v2"}
            return next((name for key, name in keys.items() if key in request.body), "native")
        images = media_type.startswith("image/") or media_type == "multipart/form-data"
        return "npy" if media_type == NPY else "image" if images else "unknown"

    def as_rows(
        self, protocol: str, data: FeatureRows | dict[str, Array], rows: int, top_k: int, single: bool
    ) -> Decoded:
        """A request whose answer is ``{"prediction": …}`` if single, else ``{"predictions": […]}``."""

        def encode(outputs: Outputs) -> Response:
            answers = row_answers(self.contract, outputs, top_k)
            return Response(200, json_output.encode({"prediction": answers[0]} if single else {"predictions": answers}))

        return Decoded(data, rows, protocol, encode)

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
        body = request.body
        json_input.check_utf8(body)
        single = b'"instances"' not in body
        # Most texts are what they seem to be. Those that are not are of another format, or at fault.
        rows = None if b'"datatype"' in body else self._rows.attempt(body, single)
        if rows is None:
            envelope = json_input.decode(_ENVELOPE, body, lambda _: "an object")
            single = envelope.instances is UNSET
            if single and envelope.inputs is not UNSET and _holds_objects(envelope.inputs):
                return self._tensors(request)
            rows = self._rows.native(body) if single else self._rows.v1(body)
        top_k = rows.top_k if rows.top_k != 1 else self.top_k(request)
        check_top_k(self.contract, top_k, "$.parameters.top_k")
        return self.as_rows("native" if single else "v1", rows.data, rows.rows, top_k, single)

    def _tensors(self, request: Request) -> Decoded:
        decoded = oip.decode(self.contract, request.body, request.headers, self.max_rows)
        if decoded.top_k == 1:
            decoded = decoded._replace(top_k=self.top_k(request))
        check_top_k(self.contract, decoded.top_k, "$.parameters.top_k")

        def encode(outputs: Outputs) -> Response:
            return oip.encode(self.contract, decoded, output_arrays(self.contract, outputs, decoded.top_k))

        return Decoded(decoded.tensors, decoded.rows, "v2", encode)

    def _npy(self, request: Request) -> Decoded:
        tensors, rows = npy.decode(self.contract, request.body, self.max_rows)
        if NPY not in request.headers.get("accept", ""):
            return self.as_rows("npy", tensors, rows, self.top_k(request), single=False)

        def encode(outputs: Outputs) -> Response:
            return Response(200, npy.encode(outputs[self.contract.graph_outputs[0]]), NPY)

        return Decoded(tensors, rows, "npy", encode)


def _sniff(body: bytes) -> str:
    """The media type of a body sent without one, as ``curl -T`` does."""
    if body.lstrip()[:1] in (b"{", b"["):
        return JSON
    return next((media_type for magic, media_type in _MAGIC.items() if body.startswith(magic)), "")


def _holds_objects(array: Raw) -> bool:
    text = bytes(array).lstrip()
    return text[:1] == b"[" and text[1:].lstrip()[:1] == b"{"
