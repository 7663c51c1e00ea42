"""What is wrong with a store on S3 is said in a sentence that names the way out."""

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.ports import free_ports
from serving.registry import ArchiveError
from serving.store.fetching import fetch
from serving.store.shared.s3_objects import Objects
from serving.store.shared.s3_registry import S3Registry
from tests.serving.store.conftest import SharedStore, forget_clients
from tests.support.serving.s3 import S3Server

SHA256 = "0" * 64
CODES: Mapping[str, tuple[int, str]] = {
    "InvalidAccessKeyId": (403, "the credentials are refused: check AWS_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": (403, "the credentials are refused: check AWS_ACCESS_KEY_ID"),
    "RequestTimeTooSkewed": (403, "the clocks of this machine and of the server differ"),
    "AccessDenied": (403, "these credentials may not do it: they need s3:GetObject"),
    "ExpiredToken": (400, "the credentials are refused: check AWS_ACCESS_KEY_ID"),
    "NoSuchBucket": (404, "there is no such bucket: make it, or name another one by MARLOOP_MODEL_STORE"),
}


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with the error that the bucket is named by."""

    def answer(self) -> None:
        code = next((code for code in CODES if f"/{code.lower()}" in self.path), "")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode() if code else b""
        self.send_response(CODES[code][0] if code else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> Iterator[str]:
    """The endpoint of a server that refuses."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        for name, value in {**s3.environment, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        yield endpoint
        server.shutdown()
    forget_clients()


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_names_its_cause_for_the_registry_and_for_archives(refusing: str, code: str, tmp_path: Any) -> None:
    url = f"s3://{code.lower()}/models"
    with pytest.raises(ArchiveError, match=f"{url}/registry.json cannot be read: {CODES[code][1]}"):
        Objects(url).read("registry.json")
    with pytest.raises(ArchiveError, match=f"{url}/registry.json cannot be written: {CODES[code][1]}"):
        Objects(url).write("registry.json", b"{}", "")
    with pytest.raises(ArchiveError, match=f"cannot be fetched to .*: {CODES[code][1]}"):
        fetch(f"{url}/flights-1.0.mar", SHA256, tmp_path)


def test_a_server_that_minds_no_conditions_is_refused_before_anything_is_changed(refusing: str) -> None:
    said = "minds no conditions of a write .* MARLOOP_REGISTRY=database"
    with pytest.raises(ArchiveError, match=said), S3Registry(Objects("s3://careless/models")).changing():
        pass


def test_an_endpoint_at_which_nothing_answers_is_named(
    on_s3: SharedStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_clients()
    with pytest.raises(ArchiveError, match="registry.json cannot be read: nothing answers there: check AWS"):
        on_s3.registry().models()
    with pytest.raises(ArchiveError, match="nothing answers there: check AWS_ENDPOINT_URL"):
        fetch(f"{on_s3.url}/flights-1.0.mar", SHA256, tmp_path)


def test_missing_credentials_are_named(on_s3: SharedStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget_clients()
    with pytest.raises(ArchiveError, match="registry.json cannot be read: there are no credentials"):
        on_s3.registry().models()
    with pytest.raises(ArchiveError, match="there are no credentials: set AWS_ACCESS_KEY_ID"):
        fetch(f"{on_s3.url}/flights-1.0.mar", SHA256, tmp_path)


def test_a_profile_that_is_not_there_is_named(on_s3: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ArchiveError, match="cannot be used: .*nobody"):
        on_s3.registry()


def test_a_bucket_that_is_not_there_is_named_by_every_command(on_s3: SharedStore) -> None:
    other = SharedStore("s3://no-such-bucket/models", on_s3.environment, on_s3.folder)
    for call in (other.registry().models, lambda: other.registry().remove("flights")):
        with pytest.raises(ArchiveError, match="there is no such bucket: make it"):
            call()


def test_an_archive_that_was_truncated_on_the_server_is_refused(on_s3: SharedStore, s3: S3Server) -> None:
    from tests.support.serving.stores import add

    content = add(on_s3.registry("a")).read_bytes()
    version = on_s3.registry("a").champion("doubling").version
    bucket, _, key = on_s3.registry("a").files.location(version).removeprefix("s3://").partition("/")
    s3.client().put_object(Bucket=bucket, Key=key, Body=content[:-7])
    other = on_s3.registry("b")
    with pytest.raises(ArchiveError, match=f"has {len(content) - 7:,} bytes with SHA-256 .* but {version.sha256} was"):
        other.verify(version)
    assert not (other.store / version.archive).exists()
