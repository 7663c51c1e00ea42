"""API keys: what the file keeps, who is let in, what the others are told, and that no key is told by anything."""

import asyncio
import json
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from serving.__main__ import app
from serving.hosts.direct.routes import model_of
from serving.registry import Registry
from serving.security import house_key
from serving.security.gate import ALLOWED, Gate
from serving.security.grants import LOOK, Bucket, Keys
from serving.security.keys import KeyFile, KeyFileError, expiry
from serving.settings import Settings
from tests.serving.hosts.direct.test_app import ROW, V2_BODY, World
from tests.support.serving.stores import add

LINE = "/predictions/line"


class Guarded(World):
    """The application behind the gate, whose store is in a folder."""

    def __init__(self, folder: Path, always: bool = False) -> None:
        super().__init__()
        self.file, self.board, self.now = KeyFile(folder), folder / "board", 0.0
        self.keys = Keys(KeyFile(folder), self.board, clock=lambda: self.now, always=always)
        self.refusals: list[tuple[str, int, str]] = []

    def application(self) -> Any:
        self.now += 1  # so that the files are looked at again
        return Gate(super().application(), self.keys, model_of, refused=lambda *refusal: self.refusals.append(refusal))

    def status(self, path: str = LINE, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, json=ROW, headers=named).status_code


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_host_without_keys_asks_for_none(guarded: Guarded) -> None:
    assert guarded.status() == 200


def test_from_the_first_key_on_a_request_needs_one_in_either_header(guarded: Guarded) -> None:
    key = guarded.file.add("app")
    assert guarded.status() == 401
    assert guarded.refusals == [(LINE, 401, "invalid_api_key")]
    assert guarded.status(authorization=f"Bearer {key}") == 200
    assert len(guarded.refusals) == 1
    assert guarded.status(authorization=f"bearer  {key}") == 200
    assert guarded.status(x_api_key=key) == 200


def test_the_file_has_the_hash_alone_and_is_for_its_owner(guarded: Guarded) -> None:
    key = guarded.file.add("app")
    text = guarded.file.path.read_text()
    assert key.startswith("mar_")
    assert key not in text
    assert guarded.file.path.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(text)["app"]) == {"sha256", "created", "models", "expires", "rate"}


@pytest.mark.parametrize(
    "header",
    ["Bearer mar_wrong", "Bearer", "Basic bWFyOg==", "Bearer " + "x" * 60_000, "Bearer \xe9\xff", "mar_", ""],
)
def test_a_wrong_key_is_refused_without_being_told_back(guarded: Guarded, header: str) -> None:
    guarded.file.add("app")
    headers = {"Authorization": header.encode("latin-1")}
    response = guarded.ask("POST", LINE, json=ROW, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["connection"] == "close"
    assert "mar_wrong" not in response.text


def test_a_key_in_the_query_is_ignored(guarded: Guarded) -> None:
    key = guarded.file.add("app")
    assert guarded.status(f"{LINE}?api_key={key}&X-API-Key={key}") == 401


def test_two_keys_that_differ_are_refused_though_one_is_right(guarded: Guarded) -> None:
    key = guarded.file.add("app")
    assert guarded.status(authorization=f"Bearer {key}", x_api_key="mar_other") == 401
    assert guarded.status(authorization=f"Bearer {key}", x_api_key=key) == 200
    twice = [("X-API-Key", key), ("X-API-Key", "mar_other")]
    assert guarded.ask("POST", LINE, json=ROW, headers=twice).status_code == 401


def test_a_long_header_beside_a_right_key_is_refused(guarded: Guarded) -> None:
    key = guarded.file.add("app")
    assert guarded.status(authorization=f"Bearer {key}", x_api_key="x" * 300) == 401


def test_a_revoked_key_ends_while_serving_and_the_last_one_opens_nothing(guarded: Guarded) -> None:
    key = guarded.file.add("app")
    assert guarded.status(x_api_key=key) == 200
    assert guarded.file.revoke("app") == 0
    assert guarded.status(x_api_key=key) == 401
    assert guarded.status() == 401


def test_a_key_ends_at_its_time(guarded: Guarded) -> None:
    past = guarded.file.add("past", expires=datetime.now(UTC) - timedelta(seconds=1))
    later = guarded.file.add("later", expires=datetime.now(UTC) + timedelta(days=1))
    assert guarded.status(x_api_key=past) == 401
    assert guarded.status(x_api_key=later) == 200


def test_a_key_of_another_model_is_told_so_and_sees_no_other(guarded: Guarded) -> None:
    other, line = guarded.file.add("other", ("other",)), guarded.file.add("line", ("line",))
    for path in (LINE, f"{LINE}/1.2/v1/models/line:predict", "/v1/models/line:predict", "/predictions/missing"):
        assert guarded.status(path, x_api_key=other) == 403
    for path in ("/v2/models/line", "/v2/models/line/versions/1.2/ready", "/v1/models/line"):
        assert guarded.ask("GET", path, headers=bearer(other)).status_code == 403
    for path in ("/v1/models", "/v2/repository/index", "/openapi.json", "/nothing"):
        assert '"line"' not in guarded.ask("GET", path, headers=bearer(other)).text
        assert "predictions/line" not in guarded.ask("GET", path, headers=bearer(other)).text
    assert guarded.ask("GET", "/v1/models", headers=bearer(line)).json() == {"models": ["line"]}
    assert guarded.status(x_api_key=line) == 200


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/v2", "/v1/models", "/v2/models/line", "/v2/models/no"])
def test_metadata_needs_a_key_and_the_refusal_tells_no_model(guarded: Guarded, path: str) -> None:
    guarded.file.add("app")
    response = guarded.ask("GET", path)
    assert response.status_code == 401
    assert "line" not in response.text


def test_health_is_open_and_tells_strangers_no_model(guarded: Guarded) -> None:
    key = guarded.file.add("app")
    guarded.faults["line"] = "broken"
    for path in ("/ping", "/health", "/v2/health/live"):
        assert guarded.ask("GET", path).status_code == 200
    assert guarded.ask("GET", "/v2/health/ready").json() == {"ready": False}
    assert guarded.ask("GET", "/v2/health/ready", headers=bearer(key)).json()["faults"] == {"line": "broken"}


def test_a_refusal_has_the_form_of_its_protocol(guarded: Guarded) -> None:
    guarded.file.add("app")
    native = guarded.ask("POST", LINE, json=ROW).json()
    assert native["error"]["code"] == "invalid_api_key"
    v2 = guarded.ask("POST", "/v2/models/line/infer", json=V2_BODY).json()
    assert isinstance(v2["error"], str)
    chat = guarded.ask("POST", "/v1/chat/completions", json={"model": "chat"}).json()
    assert chat["error"]["code"] == "invalid_api_key"
    assert chat["error"]["type"] == "invalid_request_error"


def test_a_key_for_other_models_is_refused_a_language_model_by_its_name(guarded: Guarded) -> None:
    guarded.elsewhere = {"chat": {}}
    key = guarded.file.add("line", ("line",))
    body = {"model": "chat", "messages": []}
    response = guarded.ask("POST", "/v1/chat/completions", json=body, headers=bearer(key))
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    response = guarded.ask("POST", "/v1/chat/completions", json=body | {"model": "line"}, headers=bearer(key))
    assert response.status_code == 404
    assert "chat" not in response.text


def test_a_refusal_has_an_id_for_the_logs(guarded: Guarded) -> None:
    guarded.file.add("app")
    first, second = (guarded.ask("POST", LINE, json=ROW) for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.json()["error"]["request_id"] == first.headers["x-request-id"]


def test_the_commands_add_list_and_revoke(tmp_path: Path) -> None:
    add(Registry(tmp_path), "line")
    environ = Settings(model_store=tmp_path, run_dir=tmp_path / "run", host="direct").to_environment()

    def keys(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["keys", *arguments], env=environ, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    assert re.match(r"mar_[\w-]{43}\n", keys("add", "app", "--model", "line", "--expires", "30d", "--rate", "5"))
    assert "there is a key app already" in keys("add", "app", code=1)
    assert "there is no model other; there are: line" in keys("add", "b", "--model", "other", code=1)
    assert "has passed" in keys("add", "b", "--expires", "2020-01-01", code=1)
    (entry,) = json.loads(keys("list", "--json")).values()
    assert (entry["models"], entry["rate"]) == (["line"], 5)
    assert "app" in keys("list")
    assert "mar_" not in keys("list")
    assert "nobody is let in" in keys("revoke", "app")
    assert "there is no key app" in keys("revoke", "app", code=1)


def test_a_run_keeps_its_key(tmp_path: Path) -> None:
    house_key.make(tmp_path)
    headers = house_key.headers(tmp_path)
    house_key.make(tmp_path)  # of a worker that is started anew
    assert house_key.headers(tmp_path) == headers


def test_a_damaged_file_lets_nobody_in_but_the_house(guarded: Guarded) -> None:
    key = guarded.file.add("app")
    house_key.make(guarded.board)
    guarded.file.path.write_text('{"app": {"sha256": ')
    assert guarded.status(x_api_key=key) == 401
    assert guarded.status(**house_key.headers(guarded.board)) == 200
    with pytest.raises(KeyFileError, match=r"keys\.json is damaged"):
        guarded.file.add("second")


def test_requests_are_counted_by_key_and_class_and_none_is_lost_at_the_end(guarded: Guarded) -> None:
    key, registry = guarded.file.add("app"), CollectorRegistry()

    def counted(name: str, code: str) -> float | None:
        return registry.get_sample_value("marloop_requests_by_key_total", {"key": name, "code": code})

    async def run() -> None:
        gate = Gate(World.application(guarded), guarded.keys, model_of, registry)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://host") as client:
            for headers in (bearer(key), bearer(key), {}, bearer("mar_no")):
                await client.post(LINE, json=ROW, headers=headers)
            while counted("unknown", "4xx") is None:
                await asyncio.sleep(LOOK / 10)
            assert [counted("app", "2xx"), counted("none", "4xx"), counted("unknown", "4xx")] == [2, 1, 1]
            await client.post(LINE, json=ROW, headers=bearer(key))
        await gate({"type": "lifespan"}, ended, sent)
        assert counted("app", "2xx") == 3

    async def ended() -> dict[str, str]:
        return {"type": "lifespan.shutdown"}

    async def sent(message: Any) -> None:
        pass

    asyncio.run(asyncio.wait_for(run(), 30))


def test_the_rate_of_a_key_is_kept_and_told(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    guarded.keys = Keys(KeyFile(tmp_path), guarded.board, workers=4, clock=lambda: guarded.now)
    key = guarded.file.add("slow", rate=1.0)  # a quarter a second for each of four workers
    assert guarded.status(x_api_key=key) == 200
    response = guarded.ask("POST", LINE, json=ROW, headers=bearer(key))
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    guarded.now += 4
    assert guarded.status(x_api_key=key) == 200


def test_a_bucket_holds_what_comes_in_a_second() -> None:
    now = 0.0
    bucket = Bucket(2.0, lambda: now)
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 0.5]
    now = 60.0
    assert [bucket.take() > 0 for _ in range(3)] == [False, False, True]


def test_what_is_behind_the_gate_never_sees_a_key(guarded: Guarded) -> None:
    key, scopes = guarded.file.add("app", ("line",)), []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        transport = httpx.ASGITransport(Gate(application, guarded.keys, model_of))
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            await client.post(LINE, headers=bearer(key))

    asyncio.run(run())
    assert key not in str(scopes[0])
    assert scopes[0][ALLOWED] == {"line"}


def test_two_keys_that_are_added_at_once_are_both_there(guarded: Guarded) -> None:
    threads = [threading.Thread(target=guarded.file.add, args=(f"key-{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(guarded.file.read() or {}) == 8


@pytest.mark.parametrize("name", ["", "none", "unknown", "marloop", "a b", "../x", "x" * 65])
def test_a_name_that_is_none_is_refused(guarded: Guarded, name: str) -> None:
    with pytest.raises(KeyFileError, match="is no name"):
        guarded.file.add(name)


def test_a_name_is_used_once(guarded: Guarded) -> None:
    guarded.file.add("app")
    with pytest.raises(KeyFileError, match="there is a key app already"):
        guarded.file.add("app")
    with pytest.raises(KeyFileError, match="there is no key other; there are: app"):
        guarded.file.revoke("other")


def test_an_end_is_days_or_a_date() -> None:
    now = datetime(2027, 1, 1, tzinfo=UTC)
    assert expiry("30d", now) == datetime(2027, 1, 31, tzinfo=UTC)
    assert expiry("2027-02-01", now) == datetime(2027, 2, 1, tzinfo=UTC)
    for text, reason in (("soon", "neither"), ("0d", "neither"), ("2026-01-01", "has passed"), ("99999d", "")):
        if reason:
            with pytest.raises(KeyFileError, match=reason):
                expiry(text, now)


def test_the_key_of_the_house_goes_to_its_host_alone(tmp_path: Path) -> None:
    house_key.make(tmp_path)
    assert (tmp_path / house_key.FILE).stat().st_mode & 0o777 == 0o600
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append("authorization" in request.headers)
        return httpx.Response(200)

    auth = house_key.HouseKey(tmp_path, "http://127.0.0.1:8080")
    with httpx.Client(transport=httpx.MockTransport(answer), auth=auth) as client:
        client.get("http://127.0.0.1:8080/ping")
        client.get("http://127.0.0.1:9090/ping")
        client.get("http://elsewhere:8080/ping")
    assert seen == [True, False, False]
