"""The replay's folder, programs and environment; what runs is in tests/integration/monitoring/test_replay.py."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monitoring.__main__ import app
from monitoring.replay import stack
from monitoring.replay.stack import ReplayError, alone, environment, find_programs, prepare
from serving.hosts.torchserve import background
from serving.supervision.supervisor import SupervisorError


def test_a_folder_of_its_own_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    prepare(folder)
    (folder / "old").touch()
    prepare(folder)
    assert [path.name for path in folder.iterdir()] == [stack.MARK]


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with pytest.raises(ReplayError, match="letters holds something that is no replay's"):
        prepare(tmp_path / "letters")
    assert (tmp_path / "letters" / "dear.txt").exists()


def test_what_a_killed_replay_left_running_is_ended_and_nothing_else(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    options = {"left": tmp_path / "replay", "other": tmp_path / "replay-2"}
    processes = {
        name: subprocess.Popen([*sleep, f"--config.file={folder}/prometheus/prometheus.yml"])
        for name, folder in options.items()
    }
    try:
        prepare(tmp_path / "replay")
        assert processes["left"].poll() is not None
        assert processes["other"].poll() is None
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_one_replay_at_a_time_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    with alone(folder), pytest.raises(ReplayError, match="another replay is under way"), alone(folder):
        pass
    with alone(folder):
        pass


def test_a_copy_shares_neither_stores_nor_settings_with_the_service_beside_it() -> None:
    own = {"PATH": "/bin", "DATABASE_URL": "postgresql://live", "CAPTURE_URL": "http://live", "MARLOOP_TOKEN": "secret"}
    assert environment(own, {"MARLOOP_CLOCK": "events"}) == {
        "PATH": "/bin",
        "MARLOOP_ENV_FILE": "off",
        "MARLOOP_CLOCK": "events",
    }


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ReplayError, match="prometheus is not installed; Debian has them in the packages prometheus and"
    ):
        find_programs()


def test_a_period_without_flights_is_refused(tmp_path: Path) -> None:
    options = ["--from", "2015-01-01", "--to", "2015-02-01", "--folder", str(tmp_path / "replay")]
    told = CliRunner().invoke(app, ["replay", *options])
    assert told.exit_code == 1
    assert "flights has no rows from 2015-01-01 to 2015-02-01" in told.output


def test_a_replay_whose_supervisor_does_not_start_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SupervisorError("the supervisor does not start. The end of its log: no room")

    monkeypatch.setattr(stack, "find_programs", lambda: dict.fromkeys(stack.PROGRAMS, "/bin/false"))
    monkeypatch.setattr(stack, "train", lambda *_: None)
    monkeypatch.setattr(background, "start", refuse)
    result = CliRunner().invoke(app, ["replay", "--share", "0.001", "--folder", str(tmp_path / "replay")])
    assert result.exit_code == 1
    assert "error: the supervisor does not start. The end of its log: no room; started again" in result.output
    assert isinstance(result.exception, SystemExit)  # and no traceback
