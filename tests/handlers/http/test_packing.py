"""Compressed bodies and forms are what they hold: the same answer as without, or a 4xx that says what is wrong."""

import base64
import binascii
import contextlib
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.http.content_encoding import CODINGS, MOST_MEMBERS, ZSTD
from handlers.http.multipart import parse
from handlers.http.packing import is_packed, unpack
from handlers.message import JSON, MAX_BODY, MOST_PARTS, InputError, Part, Request
from serving.settings import ROOT
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, PICTURES, pixels, serve

ROW = b'{"x": 6}'
FILE = wire.picture(pixels()[0])
FORM = "multipart/form-data; boundary=b"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    " deflate ": raw_deflate,
    "identity": bytes,
    "Identity": bytes,
    "": bytes,
    " ": bytes,
    ",": bytes,
    "gzip, identity": gzip.compress,
    "identity,gzip,": gzip.compress,
    "deflate, gzip": lambda body: gzip.compress(zlib.compress(body)),
    "gzip\t,gzip": lambda body: gzip.compress(gzip.compress(body)),
}

if ZSTD:
    PACKERS |= {"zstd": ZSTD.compress, "gzip, zstd": lambda body: ZSTD.compress(gzip.compress(body))}


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize(
    "asked",
    [wire.native, wire.v1, wire.v2, wire.v2_binary, wire.npy],
    ids=lambda writer: writer.__name__,
)
def test_a_body_that_is_encoded_gets_the_answer_of_its_content(coding: str, asked: wire.Writer) -> None:
    plain = asked(LINE, {"x": np.array([6], "f4")})
    packed = plain._replace(body=PACKERS[coding](plain.body), headers={**plain.headers, "content-encoding": coding})
    handler = serve(LINE)
    assert handler.handle([packed])[0] == handler.handle([plain])[0]
    assert handler.handle([packed])[0].status == 200


def test_pictures_and_forms_may_be_encoded_too() -> None:
    handler = serve(PICTURES)
    expected = wire.ask(handler, wire.request(FILE, "image/png"))
    assert wire.ask(handler, wire.request(gzip.compress(FILE), "image/png", content_encoding="gzip")) == expected
    form = gzip.compress(body(part()))
    assert wire.ask(handler, wire.request(form, FORM, content_encoding="gzip")) == expected


@pytest.mark.parametrize("coding", ["gzip", *(["zstd"] if ZSTD else [])])
def test_a_body_of_very_many_members_is_refused(coding: str) -> None:
    body = PACKERS[coding](ROW) + PACKERS[coding](b"") * MOST_MEMBERS
    error = wire.refusal(serve(LINE), wire.request(body, JSON, content_encoding=coding))
    assert (error["status"], error["code"]) == ("400", "invalid_encoding")
    assert f"more than {MOST_MEMBERS} {coding} members" in error["message"]


@pytest.mark.skipif(ZSTD is None, reason="the extra zstd is not installed")
@pytest.mark.parametrize("fault", ["cut", "no zstd", "large", "window"])
def test_a_damaged_or_large_zstd_body_is_told(fault: str) -> None:
    wide = {ZSTD.CompressionParameter.window_log: 27, ZSTD.CompressionParameter.enable_long_distance_matching: 1}
    body, status = {
        "cut": (ZSTD.compress(ROW)[:-2], "400"),
        "no zstd": (ROW, "400"),
        "large": (ZSTD.compress(bytes(MAX_BODY + 1)), "413"),
        "window": (ZSTD.ZstdCompressor(options=wide).compress(ROW), "400"),
    }[fault]
    assert wire.refusal(serve(LINE), wire.request(body, JSON, content_encoding="zstd"))["status"] == status


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, br", "*", "gzip;q=1", ",".join(["gzip"] * 4)])
def test_another_coding_is_415_and_says_which_are_taken(coding: str) -> None:
    error = wire.refusal(serve(LINE), wire.request(ROW, JSON, content_encoding=coding))
    assert (error["status"], error["code"], error["path"]) == ("415", "unsupported_media_type", "content-encoding")
    assert error["expected"] == ", ".join(CODINGS)


BROKEN = [  # without a time, which would be part of the name of a test
    ("gzip", ROW),
    ("gzip", gzip.compress(ROW, mtime=0)[:-1]),
    ("gzip", gzip.compress(ROW, mtime=0)[:12]),
    ("gzip", gzip.compress(ROW, mtime=0) + b"x"),
    ("gzip", gzip.compress(ROW, mtime=0)[:-8] + bytes(8)),
    ("deflate", ROW),
    ("deflate", zlib.compress(ROW)[:-1]),
    ("deflate", zlib.compress(ROW) + b"x"),
    ("gzip, gzip", gzip.compress(ROW, mtime=0)),
]


@pytest.mark.parametrize(("coding", "sent"), BROKEN)
def test_a_body_that_is_not_in_its_coding_is_400(coding: str, sent: bytes) -> None:
    asked = wire.request(sent, JSON, content_encoding=coding)
    assert wire.fault(serve(LINE), asked) == (400, "invalid_encoding", "content-encoding")


def test_members_of_gzip_follow_each_other() -> None:
    sent = gzip.compress(ROW[:4]) + gzip.compress(ROW[4:])
    assert wire.ask(serve(LINE), wire.request(sent, JSON, content_encoding="gzip"))


def test_no_body_is_empty_whatever_its_coding() -> None:
    for coding in ("gzip", "identity", ""):
        assert wire.fault(serve(LINE), wire.request(b"", JSON, content_encoding=coding))[:2] == (400, "empty")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip"])
def test_a_bomb_is_refused_once_the_limit_is_reached(coding: str) -> None:
    sent = b" " * (MAX_BODY - len(ROW)) + ROW
    for name in reversed(coding.split(", ")):
        sent = PACKERS[name](sent)
    assert wire.ask(serve(LINE), wire.request(sent, JSON, content_encoding=coding))
    bomb = b" " * 40 * MAX_BODY
    for name in reversed(coding.split(", ")):
        bomb = PACKERS[name](bomb)
    asked = wire.request(bomb, JSON, content_encoding=coding)
    assert wire.fault(serve(LINE), asked) == (413, "too_large", "content-encoding")
    members = gzip.compress(b" " * (MAX_BODY // 3)) * 4
    assert wire.fault(serve(LINE), wire.request(members, JSON, content_encoding="gzip"))[0] == 413


def test_the_limit_is_that_of_the_frontend() -> None:
    assert f"max_request_size={MAX_BODY}\n" in (Path(ROOT) / "config.properties").read_text()


def test_a_request_without_either_is_left_alone() -> None:
    assert not is_packed(wire.request(ROW))
    assert not is_packed(wire.request(ROW, "image/png"))


def part(
    name: str = 'name="file"; filename="a.png"', content: bytes = FILE, head: str = "Content-Type: image/png\r\n"
) -> bytes:
    return f"\r\n--b\r\nContent-Disposition: form-data; {name}\r\n{head}\r\n".encode() + content


def body(*parts: bytes, end: bytes = b"\r\n--b--\r\n") -> bytes:
    return b"".join(parts).removeprefix(b"\r\n") + end


HEX = "multipart/form-data; boundary=b"
FORMS = {
    "plain": (body(part()), HEX),
    "case": (body(part()), "Multipart/Form-Data; BOUNDARY=b"),
    "quoted boundary": (body(part()), 'multipart/form-data; boundary="b"'),
    "another parameter": (body(part()), 'multipart/form-data ; charset="utf-8;" ;boundary=b'),
    "boundary of RFC 2231": (body(part()), "multipart/form-data; boundary*=utf-8''b"),
    "preamble": (b"a form\r\nof mine" + part() + body(), HEX),
    "epilogue": (body(part()) + b"bye --b bye", HEX),
    "padding": (body(part()).replace(b"--b\r\n", b"--b \t\r\n"), HEX),
    "base64": (body(part(content=base64.encodebytes(FILE), head="Content-Transfer-Encoding: BASE64\r\n")), HEX),
    "quoted-printable": (
        body(part(content=binascii.b2a_qp(FILE, istext=False), head="content-transfer-encoding: quoted-printable\r\n")),
        HEX,
    ),
    "binary": (body(part(head="Content-Transfer-Encoding: Binary\r\n")), HEX),
    "no file name": (body(part('name="file"', head="")), HEX),
    "a name of RFC 2231": (body(part("name*=utf-8''f%c3%bcr; filename*=utf-8''%e2%82%ac.png")), HEX),
    "names without quotes": (body(part("name=file;filename=a.png")), HEX),
    "a folded header": (body(part('name="file";\r\n filename="a.png"')), HEX),
    "no media type": (body(part(head="")), HEX),
    "top_k": (body(part('name="top_k"', b"1", ""), part()), HEX),
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_that_the_host_has_not_read_is_read(kind: str) -> None:
    handler = serve(PICTURES)
    sent, content_type = FORMS[kind]
    assert wire.ask(handler, wire.request(sent, content_type)) == wire.ask(handler, wire.request(FILE, "image/png"))


BAD_FORMS = {
    "no boundary": (body(part()), "multipart/form-data", "invalid_form"),
    "an empty boundary": (body(part()), 'multipart/form-data; boundary=""', "invalid_form"),
    "another boundary": (body(part()), "multipart/form-data; boundary=c", "invalid_form"),
    "no end": (body(part(), end=b""), HEX, "invalid_form"),
    "no parts": (b"--b--\r\n", HEX, "invalid_form"),
    "nothing": (b"", HEX, "invalid_form"),
    "no name": (body(part('filename="a.png"')), HEX, "invalid_form"),
    "an attachment": (body(part()).replace(b"form-data;", b"attachment;"), HEX, "invalid_form"),
    "no headers": (b"--b\r\n" + FILE + b"\r\n--b--", HEX, "invalid_form"),
    "no base64": (body(part(content=b"?", head="Content-Transfer-Encoding: base64\r\n")), HEX, "invalid_form"),
    "another encoding": (body(part(head="Content-Transfer-Encoding: uuencode\r\n")), HEX, "invalid_form"),
    "too many": (body(*[part()] * (MOST_PARTS + 1)), HEX, "invalid_form"),
    "two files": (body(part(), part('name="other"; filename="b.png"')), HEX, "invalid_image"),
    "two files of a name": (body(part(), part()), HEX, "invalid_image"),
    "a text beside": (body(part(), part('name="note"', b"hello", "")), HEX, "unknown_field"),
    "top_k twice": (body(part(), *[part('name="top_k"', b"1", "")] * 2), HEX, "duplicate_key"),
}


@pytest.mark.parametrize("kind", BAD_FORMS)
def test_a_form_that_cannot_be_answered_is_400(kind: str) -> None:
    sent, content_type, code = BAD_FORMS[kind]
    status, found, _ = wire.fault(serve(PICTURES), wire.request(sent, content_type))
    assert (status, found) == (400, code)


def test_two_files_of_one_name_are_two_where_the_host_has_read_the_form() -> None:
    twice = (Part("file", FILE, "image/png"),) * 2
    asked = Request(b"", {"content-type": FORM}, {"file": FILE}, "r-1", twice)
    error = wire.refusal(serve(PICTURES), asked)
    assert (error["code"], error["message"]) == ("invalid_image", "the form has 2 files")


def test_a_form_that_the_host_has_read_cannot_have_been_compressed() -> None:
    asked = Request(b"", {"content-type": FORM, "content-encoding": "gzip"}, {}, "r-1")
    assert wire.fault(serve(PICTURES), asked) == (415, "unsupported_media_type", "content-encoding")


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([HEX, "multipart/form-data", 'multipart/form-data; boundary="']))
def test_no_bytes_break_the_reader_of_forms(sent: bytes, content_type: str) -> None:
    with contextlib.suppress(InputError):  # and nothing else
        parse(sent.replace(b"\0", b"\r\n--b"), content_type)
    with contextlib.suppress(InputError):
        unpack(Request(sent, {"content-type": content_type, "content-encoding": "gzip"}))
