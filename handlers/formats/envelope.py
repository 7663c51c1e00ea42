"""The format of a JSON text, by the protocol that its URL names and by its members.

| the URL names | ``instances`` | ``inputs``                  | both      | neither |
| ------------- | ------------- | --------------------------- | --------- | ------- |
| nothing       | v1            | v2 of objects, else native  | v1        | native  |
| v1            | v1            | refused                     | v1        | refused |
| v2            | refused       | v2                          | v2        | refused |
| v1 or v2      | v1            | v2                          | v1        | refused |
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from handlers import json_io
from handlers.http.kserve import EITHER, V1, V2
from handlers.message import InputError

NATIVE = "native"
_KEYS = {b'"instances"': V1, b'"datatype"': V2}
EXPECTED = {
    V1: 'an object with "instances", as KServe v1 has it',
    V2: 'an object with "inputs", as the Open Inference Protocol v2 has it',
    EITHER: 'an object with "instances" or "inputs", as KServe v1 and the Open Inference Protocol v2 have it',
}


class _Envelope(msgspec.Struct):
    instances: Raw | UnsetType = UNSET
    inputs: Raw | UnsetType = UNSET


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def guess_format(body: bytes, route: str) -> str:
    """Guess the format without decoding, which nearly always suffices; empty where the members decide.

    A key may stand in a string, or be written with escapes; decoding then shows that the guess is wrong.
    """
    if route == V2:
        return V2 if b'"inputs"' in body else ""
    if b'"datatype"' in body:
        return ""
    if b'"instances"' in body:
        return V1
    return "" if route else NATIVE


def read_format(body: bytes, route: str) -> str:
    """Return the format by the members: ``V1``, ``V2`` or ``NATIVE``.

    Raises:
        InputError: it is no JSON object, or has no member of the protocol that its URL names.
    """
    envelope = json_io.decode_strictly(_ENVELOPE, body, lambda _: "an object")
    has_instances, has_inputs = envelope.instances is not UNSET, envelope.inputs is not UNSET
    if route and not {V1: has_instances, V2: has_inputs}.get(route, has_instances or has_inputs):
        raise InputError("missing_field", f"the URL is one of {route}, the body is not", expected=EXPECTED[route])
    return V2 if route == V2 else _format(envelope, bool(route))


def apparent_format(body: bytes) -> str:
    """Return the format, or the apparent one, of a refused text."""
    envelope = json_io.attempt(_ENVELOPE, body)
    if envelope is None:
        return next((name for key, name in _KEYS.items() if key in body), NATIVE)
    return _format(envelope)


def _format(envelope: _Envelope, by_url: bool = False) -> str:
    if envelope.instances is not UNSET:
        return V1
    return V2 if envelope.inputs is not UNSET and (by_url or _holds_objects(envelope.inputs)) else NATIVE


def _holds_objects(array: Raw) -> bool:
    text = bytes(array).lstrip()
    return text[:1] == b"[" and text[1:].lstrip()[:1] == b"{"
