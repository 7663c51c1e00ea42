"""A worker has the processes of new language models started, and calls none of them a fault while it loads."""

import asyncio
import time
from collections.abc import Collection, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from serving.hosts.direct.board import Board
from serving.hosts.direct.streaming import Elsewhere, LanguageProcesses
from serving.supervision.supervisor import SupervisorError
from tests.serving.hosts.direct.test_app import World
from tests.support import chat_archive


def test_processes_are_started_once_a_change_and_again_after_a_failure(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def start(names: Collection[str]) -> None:
        calls.append([*names])
        if len(calls) == 1:
            raise SupervisorError("another process changes its parts")

    language = LanguageProcesses(Board(tmp_path), [], start)
    for versions in ({}, {"chat": ["1.0"]}, {"chat": ["1.0"]}, {"chat": ["1.0"]}, {"chat": ["1.1"]}):
        asyncio.run(language.follow(versions))
    assert calls == [["chat"]] * 3


def test_a_model_that_came_later_may_load_for_as_long_as_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(tmp_path)
    language = LanguageProcesses(board, ["first"], lambda names: None)
    assert language.loading(["first", "later"]) == ("later",)
    monkeypatch.setattr(time, "monotonic", lambda: 1e12)
    assert language.loading(["first", "later"]) == ()


def test_a_model_that_is_served_loads_no_longer(tmp_path: Path) -> None:
    board = Board(tmp_path)
    language = LanguageProcesses(board, [], lambda names: None)
    assert language.loading(["chat"]) == ("chat",)
    board.beat({}, {}, {}, elsewhere=("chat",), loading=("chat",))
    assert board.faults(1) == {}
    board.beat({}, {}, {}, elsewhere=("chat",))
    assert board.faults(1) == {"chat": "its process does not live"}
    board.beat({"chat": ["1.0"]}, {"chat": "1.0"}, {}, only="chat")
    assert board.language() == {"chat": ["1.0"]}
    assert language.loading(["chat"]) == ()
    assert language.loading(["chat"]) == ()


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a b", "\n", "\0", "é", "[", "@:80"])
def test_a_path_is_passed_on_as_it_came_whatever_it_names(tmp_path: Path, name: str) -> None:
    socket = str(tmp_path / "model.sock")
    received: list[str] = []
    sent: list[MutableMapping[str, Any]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        received.append(head.split(b" ")[1].decode())
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def forward() -> None:
        async with await asyncio.start_unix_server(answer, socket):
            scope = {"method": "GET", "path": f"/v1/models/{name}", "query_string": b"a=b", "headers": []}
            await Elsewhere(socket).forward(scope, b"", asyncio.Event().wait, send)  # type: ignore[arg-type]

    asyncio.run(forward())
    path, _, query = received[0].partition("?")
    assert (unquote(path), query) == (f"/v1/models/{name}", "a=b")
    assert sent[0]["status"] == 404


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/predictions/chat", "/predictions/chat/1.0/v1/chat/completions"]
)
def test_a_process_that_is_away_is_a_503_with_the_time_to_come_again(tmp_path: Path, path: str) -> None:
    refused: list[tuple[str, int, str]] = []
    world = World()
    world.elsewhere = {"chat": {"1.0": chat_archive.contract("chat", chat_archive.echoed("Hi"))}}
    world.process = Elsewhere(str(tmp_path / "none.sock"), lambda *refusal: refused.append(refusal))
    response = world.ask("POST", path, json={"model": "chat", "prompt": "Hi"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"]["code"] == "unavailable"
    assert response.json()["error"]["message"].startswith("its process does not answer: ")
    assert refused == [(path, 503, "unavailable")]
