"""Pages of the origins that a setting names may call the service, others not."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from playwright.sync_api import Error

from serving.hosts.direct.http.cors import allow_origins
from serving.hosts.direct.http.timeouts import PatientProtocol
from serving.settings import Settings
from tests.serving.hosts.direct.test_app import ROW, World
from tests.support.applications import served
from tests.support.monitoring.browser import chromium, opened

OURS, OTHER = "https://page.example", "https://other.example"
ASKED = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-api-key"}
ASK = """async (url) => {
  const headers = {"Content-Type": "application/json", "X-API-Key": "a"};
  const answer = await fetch(url, {method: "POST", headers, body: JSON.stringify({x: 6})});
  return [answer.status, Object.keys(await answer.json()), Boolean(answer.headers.get("x-request-id"))];
}"""


def ask(origins: str, method: str, headers: Mapping[str, str]) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(allow_origins(World().application(), origins))
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return await client.request(method, "/predictions/line", json=ROW, headers=headers)

    return asyncio.run(run())


@pytest.mark.parametrize("origins", [OURS, f"http://localhost:3000, {OURS}", "*"])
def test_a_page_of_an_origin_that_is_named_may_ask(origins: str) -> None:
    preflight = ask(origins, "OPTIONS", {"origin": OURS} | ASKED)
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "x-api-key" in preflight.headers["access-control-allow-headers"]
    response = ask(origins, "POST", {"origin": OURS})
    assert "prediction" in response.json()
    for answer in (preflight, response):
        assert answer.headers["access-control-allow-origin"] in (OURS, "*")
    assert "x-request-id" in response.headers["access-control-expose-headers"].lower()


def test_a_page_of_another_origin_may_not() -> None:
    assert ask(OURS, "OPTIONS", {"origin": OTHER} | ASKED).status_code == 400
    assert "access-control-allow-origin" not in ask(OURS, "POST", {"origin": OTHER}).headers


def test_without_the_setting_nothing_stands_before_the_application() -> None:
    application = World()
    assert allow_origins(application, "") is application  # type: ignore[arg-type, comparison-overlap]
    assert ask("", "OPTIONS", {"origin": OURS} | ASKED).status_code == 405


@pytest.mark.parametrize("value", ["page.example", f"{OURS}/", "null", f"{OURS}, *"])
def test_what_is_no_origin_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match=r"MARLOOP_CORS_ORIGINS is .*; it must be origins such as"):
        Settings.from_environment({"MARLOOP_CORS_ORIGINS": value})


def hosted(origins: str) -> Any:
    """The application, made in the loop of its server."""
    made: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        made.append(made[0] if made else allow_origins(World().application(), origins))
        await made[0](scope, receive, send)

    return application


async def empty_page(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<!doctype html>"})


def test_chromium_lets_a_page_ask_where_its_origin_is_named_and_nowhere_else() -> None:
    with chromium() as browser, served(empty_page) as origin:
        for origins in (origin, OTHER):
            with (
                served(hosted(origins), PatientProtocol) as url,
                opened(browser, origin, but="CORS policy|net::ERR_FAILED") as page,
            ):
                page.goto("/")
                if origins == origin:
                    assert page.evaluate(ASK, f"{url}/predictions/line") == [200, ["prediction"], True]
                else:
                    with pytest.raises(Error, match="Failed to fetch"):
                        page.evaluate(ASK, f"{url}/predictions/line")
