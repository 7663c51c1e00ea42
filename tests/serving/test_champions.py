"""Archives are hashed again where they changed, and now and then."""

import json
import os
import zipfile
from pathlib import Path

import httpx
import pytest

from serving.readiness import AGAIN, LONGEST, Champion, Champions, Readiness, ask_alive
from serving.registry import Registry, Version, file_sha256
from tests.support.serving.stores import add, alter, contract_of_doubling


class Hashing:
    """Counts how often an archive is hashed, by a clock that stands."""

    def __init__(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.count = 0.0, 0
        self.champions = Champions(registry, lambda: self.now)
        verify = registry.verify

        def count(version: Version) -> Path:
            self.count += 1
            return verify(version)

        monkeypatch.setattr(registry, "verify", count)

    def read(self) -> Champion | Readiness:
        return self.champions.read()["doubling"]


@pytest.fixture
def hashing(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Hashing:
    return Hashing(registry, monkeypatch)


def test_an_archive_that_did_not_change_is_hashed_only_now_and_then(registry: Registry, hashing: Hashing) -> None:
    add(registry)
    for _ in range(3):
        assert isinstance(hashing.read(), Champion)
    assert hashing.count == 1
    hashing.now = AGAIN + 1
    hashing.read()
    assert hashing.count == 2


def test_bits_that_change_without_a_trace_are_found_after_a_while(registry: Registry, hashing: Hashing) -> None:
    path = add(registry)
    hashing.read()
    hashing.champions._state = lambda version: ()  # type: ignore[method-assign]  # a file system that tells nothing
    hashing.read()
    alter(path)
    assert isinstance(hashing.read(), Champion)
    hashing.now = AGAIN + 1
    assert isinstance(hashing.read(), Readiness)


@pytest.mark.parametrize("same_time", [False, True])
def test_a_changed_archive_is_refused_at_once(registry: Registry, hashing: Hashing, same_time: bool) -> None:
    path = add(registry)
    before = path.stat()
    assert isinstance(hashing.read(), Champion)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))
    if same_time:  # as after rsync --times: only the time of the inode's change tells
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = hashing.read()
    assert isinstance(found, Readiness)
    assert f"{path} has SHA-256" in found.detail
    hashing.read()
    assert hashing.count == 2  # neither is the refused one hashed each time


def pack(registry: Registry, config: str) -> Path:
    path = add(registry)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model-config.yaml", config)
    with registry.change() as models:
        models["doubling"]["1.0"].sha256 = file_sha256(path)
    return path


@pytest.mark.parametrize(
    ("config", "deadline"),
    [
        ("responseTimeout: 3", 3.0),
        ("responseTimeout: 120", LONGEST),
        ("responseTimeout: soon", LONGEST),
        ("responseTimeout: 0", LONGEST),
        ("[]", LONGEST),
        ("{", LONGEST),
        ("", LONGEST),
    ],
)
def test_the_deadline_is_the_archives(registry: Registry, config: str, deadline: float) -> None:
    pack(registry, config)
    found = Champions(registry).read()["doubling"]
    assert isinstance(found, Champion)
    assert found.deadline == deadline


def test_a_language_models_worker_is_asked_what_costs_no_token() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=json.loads("{}"))

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert ask_alive(client, "http://service", contract_of_doubling("chat"), 1.0) == ""
    assert asked == ["/predictions/chat/1.0/v1/models"]


@pytest.mark.parametrize(
    ("error", "told"),
    [(httpx.ReadTimeout("slow"), "no answer within 1.0 s"), (httpx.ConnectError("refused"), "ConnectError: refused")],
)
def test_one_that_does_not_answer_is_not_alive(error: Exception, told: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    with httpx.Client(transport=httpx.MockTransport(fail)) as client:
        assert ask_alive(client, "http://service", contract_of_doubling("chat"), 1.0) == told
