"""The example of a contract as bytes: the request that probes send, and whether an answer to it is the right one."""

import base64
import hashlib
from typing import Any

import msgspec

from handlers.contract import Example, ModelContract
from handlers.message import JSON

LARGEST_TEXT = 64 * 1024  # bytes of an opaque answer that is kept whole; of a larger one only its hash is


def request_of(contract: ModelContract) -> tuple[bytes, str]:
    """Return the body of the example's request, and its content type."""
    request = contract.example.request
    if contract.task != "opaque":
        return msgspec.json.encode(request), JSON
    body = base64.b64decode(request["base64"]) if "base64" in request else request["body"].encode()
    return body, request["content_type"]


def is_right(contract: ModelContract, body: bytes) -> bool:
    """Tell whether an answer is the example's."""
    expected = contract.example.response
    opaque = contract.task == "opaque"
    if not opaque or "json" in expected:
        try:
            return same_answer(msgspec.json.decode(body), expected["json"] if opaque else expected)
        except msgspec.DecodeError:
            return False
    if "text" in expected:
        return bool(body.decode("utf-8", "replace") == expected["text"])
    return "sha256" not in expected or bool(hashlib.sha256(body).hexdigest() == expected["sha256"])


def opaque_example(request: bytes, content_type: str, answers: tuple[bytes, bytes]) -> Example:
    """Return the example of an opaque model.

    Args:
        answers: to the request, asked twice; where they differ, any answer is the right one.
    """
    sent = _text(request)
    body = {"base64": base64.b64encode(request).decode()} if sent is None else {"body": sent}
    return Example({"content_type": content_type} | body, _expected(*answers))


def _expected(answer: bytes, again: bytes) -> dict[str, Any]:
    """Return the part of a response that stays the same: JSON, a text, a hash, or nothing."""
    try:
        value, second = msgspec.json.decode(answer), msgspec.json.decode(again)
    except msgspec.DecodeError:
        if answer != again:
            return {}
        text = _text(answer)
        whole = text is not None and len(answer) <= LARGEST_TEXT
        return {"text": text} if whole else {"sha256": hashlib.sha256(answer).hexdigest()}
    return {"json": value} if same_answer(second, value) else {}


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def same_answer(answer: Any, expected: Any, tolerance: float = 1e-3) -> bool:
    """Tell whether two decoded JSON answers agree: numbers within a relative and absolute tolerance, all else equal."""
    match expected:
        case dict():
            same_keys = isinstance(answer, dict) and answer.keys() == expected.keys()
            return same_keys and all(same_answer(answer[key], value, tolerance) for key, value in expected.items())
        case list():
            same_length = isinstance(answer, list) and len(answer) == len(expected)
            return same_length and all(same_answer(a, b, tolerance) for a, b in zip(answer, expected, strict=True))
        case int() | float() if not isinstance(expected, bool):
            number = isinstance(answer, int | float) and not isinstance(answer, bool)
            return number and abs(answer - expected) <= tolerance * max(1.0, abs(expected))
        case _:
            return type(answer) is type(expected) and bool(answer == expected)
