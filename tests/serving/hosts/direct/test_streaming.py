"""A worker has the processes of new language models started, and calls none of them a fault while it loads."""

import asyncio
import time
from collections.abc import Collection
from pathlib import Path

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
