"""A change waits for every worker, and believes only what one says since then."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.hosts.direct import rollout as rollout_module
from serving.hosts.direct.board import Board
from serving.hosts.direct.rollout import DirectRollout
from serving.hosts.host import LaunchError
from serving.registry import Registry
from tests.support.serving.stores import add, alter

CHAMPION = {"doubling": "1.0"}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "direct")


@pytest.fixture
def rollout(registry: Registry, board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[DirectRollout]:
    """The rollout of this process, the only worker; version 1.1 waits."""
    monkeypatch.setattr(rollout_module, "check_served", lambda path: None)
    monkeypatch.setattr(rollout_module, "POLL", 0.01)
    add(registry)
    add(registry, number="1.1", state="challenger")
    board.beat({"doubling": ["1.0"]}, CHAMPION, {"doubling": "1.1: altered"}, looked=time.monotonic())
    yield DirectRollout(registry, board)
    board.leave()


def later(board: Board, *served: str, fault: str = "", default: str = "1.0") -> None:
    """The worker looks again, soon."""

    def look() -> None:
        board.beat({"doubling": [*served]}, {"doubling": default}, {"doubling": fault}, looked=time.monotonic())

    threading.Timer(0.2, look).start()


def test_a_fault_of_before_is_not_held_against_a_version(rollout: DirectRollout, board: Board) -> None:
    later(board, "1.0", "1.1")
    rollout.beside("doubling", "1.1")
    assert board.beside() == [("doubling", "1.1")]


def test_a_version_that_a_worker_cannot_serve_is_asked_for_no_longer(
    rollout: DirectRollout, board: Board, registry: Registry
) -> None:
    later(board, "1.0", fault="1.1: altered")
    with pytest.raises(LaunchError, match=r"doubling 1\.1: altered"):
        rollout.promote("doubling", "1.1")
    assert board.beside() == []
    assert registry.champion("doubling").number == "1.0"


def test_what_is_served_as_the_registry_says_is_not_read_again(
    rollout: DirectRollout, registry: Registry, board: Board
) -> None:
    alter(registry.store / "doubling-1.0.mar")
    rollout.converge()


def test_a_champion_that_cannot_be_served_leaves_the_others_to_be_waited_for(
    registry: Registry, rollout: DirectRollout, board: Board
) -> None:
    add(registry, "tripling")
    threading.Timer(
        0.2,
        lambda: board.beat({"doubling": ["1.0"]}, CHAMPION, {"tripling": "1.0: no graph"}, looked=time.monotonic()),
    ).start()
    with pytest.raises(LaunchError, match=r"^tripling 1\.0: no graph$"):
        rollout.converge()


def test_it_answers_as_long_as_a_worker_lives(rollout: DirectRollout, board: Board) -> None:
    assert rollout.answers()
    board.leave()
    assert not rollout.answers()
