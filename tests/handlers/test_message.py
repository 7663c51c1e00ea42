"""The shapes of requests, responses and errors."""

import msgspec
import pytest

from handlers.message import STATUS, InputError, Request, error_response, shorten


@pytest.mark.parametrize(
    ("header", "media_type"),
    [
        ("application/json", "application/json"),
        ("Application/JSON ; charset=UTF-8", "application/json"),
        ("multipart/form-data; boundary=a;b", "multipart/form-data"),
        ("", ""),
        (";", ""),
    ],
)
def test_the_media_type_is_the_content_type_without_its_parameters(header: str, media_type: str) -> None:
    assert Request(b"", {"content-type": header}).media_type == media_type


def test_without_a_content_type_there_is_no_media_type() -> None:
    assert Request(b"", {}).media_type == ""


def test_an_error_says_what_where_what_is_right_and_which_request() -> None:
    response = error_response(
        InputError("wrong_type", "hour is 'five'", "$.hour", "integer"), Request(b"", {}, id="id-7")
    )
    assert response.status == 400
    assert response.content_type == "application/json"
    assert msgspec.json.decode(response.body) == {
        "error": {
            "code": "wrong_type",
            "message": "hour is 'five'",
            "path": "$.hour",
            "expected": "integer",
            "request_id": "id-7",
        }
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_json", 400),
        ("too_many_rows", 413),
        ("image_too_large", 413),
        ("unsupported_media_type", 415),
        ("internal", 500),
        ("not_supported", 501),
    ],
)
def test_the_code_decides_the_status(code: str, status: int) -> None:
    assert error_response(InputError(code, "m"), Request(b"", {})).status == status


def test_every_fault_of_the_input_is_a_4xx() -> None:
    assert {code for code, status in STATUS.items() if not 400 <= status < 500} == {
        "internal",
        "not_supported",
        "overloaded",
        "stopping",
    }


def test_a_megabyte_of_input_is_not_quoted_whole() -> None:
    error = InputError("wrong_type", "m" * 1_000_000, "$." + "p" * 1_000_000)
    assert len(error_response(error, Request(b"", {})).body) < 1000
    assert error.message == "m" * 300 + "…"


def test_a_short_text_is_kept_whole() -> None:
    assert shorten("a" * 300) == "a" * 300


def test_half_a_surrogate_pair_in_the_input_still_gives_json() -> None:
    response = error_response(InputError("unknown_category", "unknown '\ud800'"), Request(b"", {}, id="id"))
    assert msgspec.json.decode(response.body)["error"]["message"] == "unknown '?'"
