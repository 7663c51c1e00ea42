"""The errors that the front answers by itself, in the form of all others, in place of HAProxy's own pages."""

import re
from collections.abc import Iterator

from handlers.message import InputError, Request, error_response

LATER = "the same request again, later"
TYPE = "content-type application/json"
ID = "%[unique-id]"
# What is no HTTP comes to no request, and gets the page that HAProxy 2.8 has built in.
FAULTS = {
    400: InputError("invalid_http", "this is no request of HTTP that can be read in one way alone"),
    408: InputError("timeout", "the body of the request was not there in time"),
    413: InputError("too_large", "the request is too large"),
    500: InputError("internal", "the front failed"),
    501: InputError("not_supported", "the front does not do this"),
    502: InputError("overloaded", "the replica ended before it answered", expected=LATER),
    503: InputError("overloaded", "no replica answers now", expected=LATER),
    504: InputError("overloaded", "no replica answered in time", expected=LATER),
}


def directives() -> Iterator[str]:
    """Yield the directives that name the answers."""
    for status, error in FAULTS.items():
        retry = "hdr Retry-After 1 " if error.code == "overloaded" else ""
        yield f"    http-error status {status} {TYPE} {retry}lf-string {body_of(error)}"


def body_of(error: InputError, as_text: bool = False) -> str:
    """Return the body of an error with the request's id, as a word of the configuration.

    Args:
        as_text: in KServe's form.
    """
    return quoted(error_response(error, Request(b"", {}, {}, ID), as_text=as_text).body.decode())


def quoted(text: str) -> str:
    """Return a word of the configuration, with what has a meaning in quotes escaped (2.2)."""
    escaped = re.sub(r'(["\\$])', r"\\\1", text)
    return f'"{escaped}"'
