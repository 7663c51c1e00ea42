"""JSON in and out: typed decoding in one C pass (msgspec), errors with the place of a fault and what would be right.

orjson writes answers: a float32 as the shortest text that reads back the same.
"""

import codecs
import contextlib
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
from msgspec import Meta

from handlers.message import InputError

T = TypeVar("T")
Describe = Callable[[str], str]
EXACT = 2**53 - 1  # no other whole number reads as the same double (IEEE 754) as one up to this
WholeFloat = Annotated[float, Meta(ge=-EXACT, le=EXACT, multiple_of=1)]
_LITERAL = re.compile(rb"-?(?:NaN|Infinity)")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")  # of a JSON path
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_STRING_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*"|\bNaN\b')

# msgspec reports faults in English only; its sentences are parsed here alone. A release that changes one would change
# the codes of errors: tests/handlers/test_json_io.py holds each sentence.
_BYTE = re.compile(r"\(byte (\d+)\)")
_CODES = [  # a message without " - at `$path`", and its code
    (re.compile(r"Object missing required field `(?P<field>.*)`", re.S), "missing_field"),
    (re.compile(r"Object contains unknown field `(?P<field>.*)`", re.S), "unknown_field"),
    (re.compile(r"Expected `array` of length", re.S), "wrong_shape"),
    (re.compile(r"Expected `\w+` [<>]", re.S), "out_of_range"),
    (re.compile(r"Number out of range|Integer value out of range", re.S), "out_of_range"),
    (re.compile(r"Invalid enum value (?P<value>.*)", re.S), "unknown_category"),
]
_WHOLE = {  # errors of a ``whole_number`` in words of an integer
    "Expected `int | float": "Expected `int",
    "Expected `float` that's a multiple of 1.0": "Expected `int`, got `float`",
}


def whole_number(low: int, high: int) -> Any:
    """Return the type of an integer that may be written as a whole float, ``8.0`` or ``1e0``; decoding gives either.

    A float beyond ``EXACT`` stands for several integers, and is out of range. The decoder knows no limit of integers
    beyond INT64, so that a larger ``high`` is not checked.
    """
    integer: Any = Annotated[int, Meta(ge=low, le=high)] if high < 2**63 else int
    least, most = max(low, -EXACT), min(high, EXACT)
    if least > most:
        return integer
    return integer | Annotated[float, Meta(ge=float(least), le=float(most), multiple_of=1.0)]


def decode(decoder: msgspec.json.Decoder[T], body: bytes, describe: Describe = lambda path: "") -> T:
    """Decode a JSON text against the decoder's type; ``describe`` says what is expected at a JSON path.

    Raises:
        InputError: not UTF-8, not JSON, or not of the type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _type_error(str(error), describe) from None
    except msgspec.DecodeError as error:
        if "UTF-8" in str(error):
            check_utf8(body)
        raise _syntax_error(body, str(error)) from None
    except RecursionError:
        raise _too_deep() from None


def decode_strictly(
    decoder: msgspec.json.Decoder[T],
    body: bytes,
    describe: Describe = lambda path: "",
    members: Callable[[T], int] | None = None,
) -> T:
    """Decode a JSON text as ``decode`` does, and refuse also faults that the decoder skips.

    Args:
        members: counts the decoded members, so that no key may stand twice in an object; None where it may.

    Raises:
        InputError: not UTF-8, not JSON, not of the type, or with a key that stands twice.
    """
    check_utf8(body)
    value = decode(decoder, body, describe)
    if members:
        check_unique_keys(body, members(value))
    return value


def attempt(decoder: msgspec.json.Decoder[T], body: bytes, members: Callable[[T], int] | None = None) -> T | None:
    """Decode a text that is probably of the decoder's type; None if it is not.

    A type that forbids unknown members leaves nothing undecoded, so that its texts are UTF-8.

    Raises:
        InputError: it is of the type, but a key stands twice.
    """
    try:
        value = decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if members:
        check_unique_keys(body, members(value))
    return value


def convert(value: Any, kind: type[T], describe: Describe = lambda path: "") -> T:
    """Check a JSON value that was decoded without a type; ``describe`` as in ``decode``.

    Raises:
        InputError: it is not of the type.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _type_error(str(error), describe) from None


def nan_to_null(body: bytes) -> bytes:
    """Return a text with null for each NaN, which Python's ``json`` writes though JSON has none; strings stay."""
    return _STRING_OR_NAN.sub(lambda match: b"null" if match[0] == b"NaN" else match[0], body)


def nan_fault(body: bytes, error: InputError) -> InputError:
    """Return the error of a text whose NaN was read as null: where a NaN is at fault, the one that says so.

    Args:
        body: the text as it came.
    """
    if error.code != "wrong_type":
        return error
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, RecursionError):
        value = json.loads(body)
        for name, index in _STEP.findall(error.path):
            value = value[int(index) if index else name]
        if value != value:
            return InputError("not_finite", "NaN is no JSON number", error.path, error.expected or "a finite number")
    return error


def check_utf8(body: bytes) -> None:
    """Refuse bytes that are not UTF-8, also where the decoder would skip them.

    Raises:
        InputError: with the position of the first bad byte.
    """
    try:
        str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise _utf8_error(error) from None


def check_unique_keys(body: bytes, members: int) -> None:
    """Refuse an object that names a key twice, of which the decoder silently keeps the last.

    Every member has a colon: a text of ``members`` members and as many colons hides none. Only where the numbers differ
    (a colon inside a string, or a duplicate) is the text searched.

    Raises:
        InputError: with the path of the second key; or the text is nested too deeply.
    """
    if body.count(b":") == members:
        return
    try:
        # Numbers stay text: Python refuses one of thousands of digits, which only the decoder may judge.
        path = _duplicate(json.loads(body, object_pairs_hook=_Pairs, parse_int=str, parse_float=str), "$")
    except RecursionError:
        raise _too_deep() from None
    if path:
        raise InputError("duplicate_key", f"the key {path} appears twice", path, "each key once")


class _Pairs(list[tuple[str, Any]]):
    """An object's members in order, duplicates kept."""


def _duplicate(value: Any, path: str) -> str | None:
    if isinstance(value, _Pairs):
        keys: set[str] = set()
        for key, _ in value:
            if key in keys:
                return f"{path}.{key}"
            keys.add(key)
        children = [(f"{path}.{key}", child) for key, child in value]
    elif isinstance(value, list):
        children = [(f"{path}[{i}]", child) for i, child in enumerate(value)]
    else:
        return None
    return next((second for place, child in children if (second := _duplicate(child, place))), None)


def _too_deep() -> InputError:
    return InputError("invalid_json", "the JSON is nested too deeply", expected="at most some 100 levels")


def _utf8_error(error: UnicodeDecodeError) -> InputError:
    return InputError("invalid_utf8", f"byte {error.start} is not UTF-8: {error.reason}", expected="JSON in UTF-8")


def _syntax_error(body: bytes, text: str) -> InputError:
    position = _BYTE.search(text)
    if position:
        # The position is that of the first letter, behind a minus sign.
        literal = _LITERAL.match(body, max(0, int(position[1]) - 1)) or _LITERAL.match(body, int(position[1]))
        if literal:
            return InputError("not_finite", f"{literal[0].decode()} is no JSON number", expected="a finite number")
    if not body.strip():
        return InputError("invalid_json", "the body is empty", expected="a JSON object")
    if body.startswith(codecs.BOM_UTF8):  # which RFC 8259, 8.1, forbids to send
        return InputError("invalid_json", "the body begins with a byte order mark", expected="JSON in UTF-8 without it")
    if _SURROGATE.search(body):
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(body)  # which takes halves for characters
            return InputError("invalid_json", "a text has half of a surrogate pair", expected="whole characters")
    return InputError("invalid_json", text, expected="a JSON object")


def _type_error(text: str, describe: Describe) -> InputError:
    message, _, path = text.rpartition(" - at `")
    message, path = (message, path.rstrip("`")) if message else (text, "$")
    for words, replacement in _WHOLE.items():
        message = message.replace(words, replacement)
    for pattern, code in _CODES:
        match = pattern.match(message)
        if match:
            field = match.groupdict().get("field")
            path = f"{path}.{field}" if field is not None else path
            return InputError(code, message, path, describe(path))
    return InputError("wrong_type", message, path, describe(path))


def is_too_short(error: InputError) -> bool:
    """Tell whether a ``wrong_shape`` is for too few elements of an array, not too many."""
    return ">=" in error.message


def refused_value(error: InputError) -> str:
    """Return the string that an ``unknown_category`` refuses."""
    return error.message.removeprefix("Invalid enum value ")[1:-1]


def encode(value: Any) -> bytes:
    """Encode a value; arrays must be contiguous and numeric."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
