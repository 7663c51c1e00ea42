"""Processes with all that they start: waited for, asked, and ended whatever happens to whoever started them."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from serving.processes import StartError, running, uninterrupted
from tests.support.waiting import wait_until

DETACHES = """
import subprocess, sys, time
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, env={})
time.sleep(600)
"""
ECHOES = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    if line == "end\\n":
        sys.exit("too many")
    print(line.upper(), end="", flush=True)
"""


def gone(process: psutil.Process) -> bool:
    return not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE


def test_all_that_a_process_started_is_ended_even_what_detached_itself_and_lost_the_mark(
    tmp_path: Path,
) -> None:
    with running([sys.executable, "-c", DETACHES], os.environ, tmp_path / "log") as tree:
        wait_until(lambda: len(tree.processes()) == 2)
        started = tree.processes()
        assert tree.memory() > 1
    assert all(map(gone, started))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_of_it_when_whoever_started_it_is_interrupted(
    tmp_path: Path, error: type[BaseException]
) -> None:
    started: list[psutil.Process] = []

    def interrupted() -> None:
        with running([sys.executable, "-c", DETACHES], os.environ, tmp_path / "log") as tree:
            wait_until(lambda: len(tree.processes()) == 2)
            started.extend(tree.processes())
            raise error

    with pytest.raises(error):
        interrupted()
    assert all(map(gone, started))


def test_one_that_ends_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with running(command, os.environ, tmp_path / "log") as tree:
        with pytest.raises(StartError, match="it ended; the end of its log: no such port"):
            tree.wait_until(lambda: False)
        assert tree.wait() == 1


def test_one_that_does_not_answer_in_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.processes.START_TIMEOUT", 0.2)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (
        running(command, os.environ, tmp_path / "log") as tree,
        pytest.raises(StartError, match="no answer after 0 s"),
    ):
        tree.wait_until(lambda: False)


def test_one_that_talks_is_asked_line_by_line_and_its_end_is_told(tmp_path: Path) -> None:
    with running([sys.executable, "-c", ECHOES], os.environ, tmp_path / "log", talks=True) as tree:
        assert tree.hear() == "ready"
        assert [tree.ask(word) for word in ("a", "b")] == ["A", "B"]
        with pytest.raises(StartError, match="too many"):
            tree.ask("end")
        with pytest.raises(StartError, match="too many"):
            tree.ask("more")


def test_a_clean_up_is_finished_whatever_signals_come_and_each_is_heard_afterwards() -> None:
    happened: list[object] = []

    def clean_up() -> None:
        with uninterrupted():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
            happened.append("cleaned")

    # Whoever runs the tests may have had SIGINT ignored, as a shell does in the background.
    interrupted = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, lambda number, _: happened.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            clean_up()
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupted)
    assert happened == ["cleaned", signal.SIGTERM]
