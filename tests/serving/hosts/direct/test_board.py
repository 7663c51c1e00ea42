"""What workers tell each other by files, and what is made of it."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from serving.hosts.direct.board import GONE, SILENT, Beat, Board


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "direct")


def tell(board: Board, tmp_path: Path, pid: int, ago: float = 0.0, **changes: str) -> None:
    """A beat of another process."""
    board.beat({"line": ["1.2"]}, {"line": "1.2"}, {})
    own = tmp_path / "direct" / f"{os.getpid()}.worker"
    beat = msgspec.json.decode(own.read_bytes(), type=Beat)
    other = msgspec.structs.replace(beat, pid=pid, time=beat.time - ago, **changes)
    (tmp_path / "direct" / f"{pid}.worker").write_bytes(msgspec.json.encode(other))


def test_a_worker_that_lives_is_known_with_what_it_serves(board: Board) -> None:
    board.beat({"line": ["1.2"]}, {"line": "1.2"}, {})
    (beat,) = board.workers()
    assert (beat.pid, beat.served, beat.defaults) == (os.getpid(), {"line": ["1.2"]}, {"line": "1.2"})
    assert board.faults(1) == {}


def test_a_worker_that_is_missing_is_told(board: Board) -> None:
    assert board.faults(1) == {"workers": "0 of 1 live"}
    board.beat({}, {}, {})
    assert board.faults(2) == {"workers": "1 of 2 live"}
    board.leave()
    assert board.workers() == []


def test_a_worker_that_hangs_is_told(board: Board, tmp_path: Path) -> None:
    tell(board, tmp_path, os.getppid(), ago=2 * SILENT)
    board.leave()
    assert list(board.faults(1)) == [f"worker {os.getppid()}"]


def test_a_worker_of_another_container_lives_as_long_as_it_is_heard_of(board: Board, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    tell(board, tmp_path, gone.pid, machine="pid:[1]")  # its number means nothing here
    board.leave()
    assert [beat.pid for beat in board.workers()] == [gone.pid]
    tell(board, tmp_path, gone.pid, ago=2 * SILENT, machine="pid:[1]")
    board.leave()
    assert list(board.faults(1)) == [f"worker {gone.pid}"]
    tell(board, tmp_path, gone.pid, ago=2 * GONE, machine="pid:[1]")
    board.leave()
    assert board.workers() == []


def test_a_worker_whose_process_is_gone_is_forgotten(board: Board, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    tell(board, tmp_path, gone.pid)
    assert [beat.pid for beat in board.workers()] == [os.getpid()]


def test_a_fault_of_a_model_is_told(board: Board) -> None:
    board.beat({}, {}, {"line": "1.3: altered"})
    assert board.faults(1) == {"line": "1.3: altered"}


def test_what_is_to_be_served_beside_is_kept(board: Board, tmp_path: Path) -> None:
    assert board.beside() == []
    board.ask_beside([("line", "1.3")])
    assert Board(tmp_path / "direct").beside() == [("line", "1.3")]


def test_a_host_that_drains_is_not_ready_until_it_is_started_anew(board: Board) -> None:
    board.beat({"line": ["1.2"]}, {"line": "1.2"}, {})
    board.drain()
    assert board.draining()
    assert board.faults(1) == {"host": "it is about to end: ask another one"}
