"""Read forms (``multipart/form-data``, RFC 7578) that the host hands on unread into parts."""

import binascii
import quopri
from email.message import Message
from email.parser import HeaderParser
from email.utils import collapse_rfc2231_value

from handlers.message import MOST_PARTS, InputError, Part

FORM_DATA = "multipart/form-data"
_EXPECTED = "a form as RFC 7578 has it"
_PLAIN = ("", "7bit", "8bit", "binary")


def parse(body: bytes, content_type: str) -> tuple[Part, ...]:
    """Return the parts of a form; ``content_type`` is the header, with the boundary.

    Raises:
        InputError: the body is no form, or has too many parts.
    """
    boundary = collapse_rfc2231_value(_header("Content-Type", content_type).get_param("boundary", ""))
    if not 0 < len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise _error("the content type has no boundary", "content-type")
    # A line of its own begins each part; the first may be the first of the body.
    delimiter = b"\r\n--" + boundary.encode("utf-8", "replace")
    pieces = (b"\r\n" + body).split(delimiter, MOST_PARTS + 2)
    if len(pieces) > MOST_PARTS + 2:
        raise InputError("invalid_form", "the form has too many parts", "form", f"at most {MOST_PARTS} parts")
    parts: list[Part] = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return tuple(parts)
        parts.append(_part(piece))
    raise _error("the form's last boundary is missing")


def _header(name: str, value: str) -> Message:
    """Parse a header with parameters, which may be quoted or encoded as in RFC 2231."""
    return HeaderParser().parsestr(f"{name}: {' '.join(value.split())}\n\n", headersonly=True)


def _part(piece: bytes) -> Part:
    """Return the part between two boundaries: the rest of the boundary's line, headers, an empty line, a body."""
    padding, _, rest = piece.partition(b"\r\n")
    head, blank, body = (b"\r\n" + rest).partition(b"\r\n\r\n")
    if padding.strip(b" \t") or not blank:
        raise _error("a part has no headers")
    headers = HeaderParser().parsestr(head.decode("utf-8", "replace").lstrip("\r\n"), headersonly=True)
    name = headers.get_param("name", header="content-disposition")
    if headers.get_content_disposition() != "form-data" or name is None:
        raise _error("a part has no name")
    is_file = headers.get_param("filename", header="content-disposition") is not None
    default = "application/octet-stream" if is_file else ""
    media_type = headers.get_content_type() if "content-type" in headers else default
    name = collapse_rfc2231_value(name)
    return Part(name, _decoded(body, str(headers.get("content-transfer-encoding", "")), name), media_type)


def _decoded(body: bytes, encoding: str, name: str) -> bytes:
    encoding = encoding.strip().lower()
    if encoding in _PLAIN:
        return body
    if encoding == "quoted-printable":
        return quopri.decodestring(body)
    if encoding != "base64":
        raise _error(f"the transfer encoding of {name!r} is {encoding!r}", "form")
    try:
        return binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
    except binascii.Error as error:
        raise _error(f"{name!r} is no base64: {error}") from None


def _error(message: str, place: str = "form") -> InputError:
    return InputError("invalid_form", message, place, _EXPECTED)
