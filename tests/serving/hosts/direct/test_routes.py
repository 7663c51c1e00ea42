"""The model that a body names."""

import pytest

from handlers.message import InputError
from serving.hosts.direct.routes import model_of_body

MODELS = {"chat": ["1.0", "1.1"], "other": ["1.0"]}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"model": "chat"}', ("chat", "")),
        (b'{"messages": [{"model": 5}], "model": "ch\\u0061t", "x": {"model": "other"}}', ("chat", "")),
        (b'{"model": "chat@1.1"}', ("chat", "1.1")),
        (b'{"model": "chat:pirate"}', ("chat", "")),
        (b'{"model": "chat:pirate@1.1"}', ("chat", "1.1")),
    ],
)
def test_it_is_found_wherever_it_stands(body: bytes, named: tuple[str, str]) -> None:
    assert model_of_body(body, MODELS, None) == named


@pytest.mark.parametrize(
    ("body", "code", "expected"),
    [
        (b"", "invalid_json", "a JSON object"),
        (b"hello", "invalid_json", "a JSON object"),
        (b"model=chat", "invalid_json", "a JSON object"),
        (b'{"model": "chat"', "invalid_json", "a JSON object"),
        (b'\xef\xbb\xbf{"model": "chat"}', "invalid_json", "JSON in UTF-8 without it"),
        ('{"model": "chat"}'.encode("utf-16"), "invalid_json", "a JSON object"),
        (b'{"model": "\xff"}', "invalid_utf8", "JSON in UTF-8"),
        (b'{"model": "\\ud800 "}', "invalid_json", "whole characters"),
        (b'{"model": "chat", "temperature": NaN}', "not_finite", "a finite number"),
        (b'{"x": ' + b"[" * 9000, "invalid_json", "at most some 100 levels"),
        (b"[]", "wrong_type", ""),
        (b"null", "wrong_type", ""),
        (b"{}", "missing_field", "chat, other"),
        (b'{"model": null}', "wrong_type", "chat, other"),
        (b'{"model": 5}', "wrong_type", "chat, other"),
        (b'{"model": ""}', "model_not_found", "chat, other"),
        (b'{"model": "Chat"}', "model_not_found", "chat, other"),
        (b'{"model": "chat@"}', "model_not_found", "chat, other"),
        (b'{"model": "chat@2.0"}', "model_not_found", "chat, other"),
        (b'{"model": "@1.0"}', "model_not_found", "chat, other"),
    ],
)
def test_a_body_that_names_none_gets_the_error_of_what_is_wrong(body: bytes, code: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        model_of_body(body, MODELS, None)
    assert (caught.value.code, caught.value.expected) == (code, expected)


def test_a_key_sees_its_models_alone() -> None:
    with pytest.raises(InputError) as caught:
        model_of_body(b"{}", MODELS, {"other"})
    assert caught.value.expected == "other"
    with pytest.raises(InputError) as caught:
        model_of_body(b'{"model": "chat"}', MODELS, {"other"})
    assert caught.value.code == "forbidden"
