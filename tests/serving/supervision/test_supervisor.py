"""The supervisor on small programs of the test's own: what ends comes back, what cannot start is given up."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from msgspec.structs import replace

from serving.processes import end, runs, tail
from serving.settings import Settings
from serving.supervision import supervisor as supervising
from serving.supervision.supervisor import Program, State, Supervisor, SupervisorError
from tests.support.waiting import wait_until

NOWHERE = "http://127.0.0.1:1/"
SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]


@dataclass(frozen=True)
class World:
    """A supervisor and where its parts write."""

    supervisor: Supervisor
    settings: Settings

    def log(self, name: str) -> Path:
        return self.settings.run_dir / f"{name}.log"

    def start(self, name: str, command: list[str], **variables: str) -> bool:
        return self.supervisor.start(name, command, self.log(name), NOWHERE, variables)

    def state(self, name: str) -> State:
        state = self.supervisor.state(name)
        assert state is not None
        return state

    def process(self, name: str) -> psutil.Process:
        wait_until(lambda: self.state(name).pid != 0)
        return psutil.Process(self.state(name).pid)


@pytest.fixture
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(supervising, "SETTLED", 4)  # s; Python itself may take one on a busy machine
    monkeypatch.setattr(supervising, "TRIES", 1)
    world = World(Supervisor(settings), settings)
    yield world
    world.supervisor.end()


def test_a_part_is_started_once_and_its_end_ends_the_supervisor(world: World) -> None:
    assert world.supervisor.states() == []
    assert world.start("a", SLEEP)
    assert not world.start("a", SLEEP)
    process = world.process("a")
    watcher = world.process("watcher")
    world.supervisor.stop("a")
    assert not any(map(runs, (process, watcher)))
    assert world.supervisor.find() is None
    world.supervisor.stop("a")  # once more is no error


def test_parts_that_are_stopped_together_end_together_with_the_time_that_each_needs(world: World) -> None:
    stubborn = "import signal, time; signal.signal(15, lambda *_: (time.sleep(1), exit(0))); time.sleep(600)"
    for name in ("a", "b", "c"):
        world.start(name, [sys.executable, "-c", stubborn])
    wait_until(lambda: all(world.state(name).state == "RUNNING" for name in ("a", "b", "c")))
    processes = [world.process(name) for name in ("a", "b", "c")]
    world.supervisor.stop("a", "b", "nobody")
    assert [runs(process) for process in processes] == [False, False, True]
    assert list(world.supervisor.parts()) == ["c"]
    ended = tail(world.supervisor.log)
    assert "stopped: a (exit status 0)" in ended
    assert "stopped: b (exit status 0)" in ended


def test_a_killed_part_comes_back_and_its_log_is_kept(world: World) -> None:
    world.start("a", SLEEP)
    wait_until(lambda: world.state("a").state == "RUNNING")
    first = world.process("a")
    first.kill()
    wait_until(lambda: world.state("a").pid not in (0, first.pid), timeout=10)
    wait_until(lambda: world.log("a").read_text().count("here") == 2)


def test_a_part_that_cannot_start_is_tried_again_and_then_given_up_with_its_reason(world: World) -> None:
    world.start("a", [sys.executable, "-c", "print('no disk'); raise SystemExit(3)"])
    wait_until(lambda: world.state("a").state == "FATAL")
    assert not world.state("a").alive
    assert "too quickly" in world.state("a").why
    assert world.log("a").read_text().count("no disk") == 2
    assert world.start("a", SLEEP)  # asked for again, it is tried again
    wait_until(lambda: world.state("a").state == "RUNNING")


def test_a_part_has_the_environment_of_whoever_started_it_whatever_is_in_it(world: World) -> None:
    odd = "a \"quoted\", 100 %(x)s; = 'value'\nof two lines \\ €"
    world.start("a", [sys.executable, "-c", "import os; print(repr(os.environ['ODD']), flush=True)"], ODD=odd)
    wait_until(lambda: world.log("a").exists() and repr(odd) in world.log("a").read_text())


def test_a_part_starts_another_with_its_environment_unless_it_was_asked_to_end(world: World) -> None:
    world.start("a", SLEEP, OURS="yes")
    other = Program("b", SLEEP, NOWHERE, vital=False)
    world.supervisor.join(other, world.log("b"), like="a")
    first = world.process("b")
    wait_until(lambda: first.environ().get("OURS") == "yes")  # it is the part itself after a moment
    world.supervisor.join(other, world.log("b"), like="a")
    assert world.process("b") == first
    assert [world.supervisor.is_vital(name) for name in ("a", "b", "watcher")] == [True, False, True]
    world.supervisor.stop("a", "b")
    world.supervisor.join(other, world.log("b"), like="a")
    assert world.supervisor.find() is None


def test_a_part_does_not_wait_for_whoever_changes_the_parts(world: World) -> None:
    world.start("a", SLEEP)
    with (
        FileLock(world.settings.run_dir / "supervisor.lock"),
        pytest.raises(SupervisorError, match="another process"),
    ):
        world.supervisor.join(Program("b", SLEEP, NOWHERE), world.log("b"), like="a")


@pytest.mark.parametrize("name", ["with space", "100%", "a,b"])
def test_a_run_folder_may_have_any_name(settings: Settings, tmp_path: Path, name: str) -> None:
    own = replace(settings, run_dir=tmp_path / name)
    supervisor = Supervisor(own)
    try:
        supervisor.start("a", SLEEP, own.run_dir / "a.log", NOWHERE, {})
        wait_until(lambda: (own.run_dir / "a.log").exists() and "here" in (own.run_dir / "a.log").read_text())
    finally:
        supervisor.end()


def test_the_environment_is_for_nobody_else_to_read(world: World) -> None:
    world.start("a", SLEEP, SECRET="x")
    file = world.supervisor.folder / "a.json"
    assert file.stat().st_mode & 0o777 == 0o600
    world.supervisor.stop("a")
    assert not file.exists()


def test_two_run_folders_do_not_see_each_other(world: World, tmp_path: Path) -> None:
    other = Supervisor(replace(world.settings, run_dir=tmp_path / "other"))
    world.start("a", SLEEP)
    assert other.states() == []
    other.end()
    assert runs(world.process("a"))


def test_what_a_killed_supervisor_left_is_known_to_the_next_one_as_not_its_own(world: World) -> None:
    world.start("a", SLEEP)
    orphan = world.process("a")
    killed = world.supervisor.find()
    assert killed is not None
    killed.kill()
    wait_until(lambda: not runs(killed))
    assert world.supervisor.states() == []
    try:
        assert world.start("b", SLEEP)
        assert {state.name for state in world.supervisor.states()} == {"b", "watcher"}
    finally:
        end([orphan])


def test_a_part_that_it_was_just_starting_when_it_was_killed_is_no_supervisor(world: World) -> None:
    world.start("a", SLEEP)
    killed, part = world.supervisor.find(), world.process("a")
    assert killed is not None
    lines = [sys.executable, "-c", "import time; time.sleep(600)", *killed.cmdline()]
    with subprocess.Popen(lines) as forked:  # as a child before it becomes another program
        try:
            assert world.supervisor.find() == killed
            killed.kill()
            wait_until(lambda: not runs(killed))
            assert world.supervisor.find() is None
            assert world.supervisor.states() == []
            assert world.start("b", SLEEP)
            assert world.supervisor.find() is not None
        finally:
            forked.kill()
            end([part])


def test_one_that_hangs_is_ended_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "ANSWER_TIMEOUT", 1.0)
    world.start("a", SLEEP)
    part = world.process("a")
    hung = world.supervisor.find()
    assert hung is not None
    os.kill(hung.pid, signal.SIGSTOP)
    world.supervisor.stop("a")
    assert not any(map(runs, (hung, part)))


def test_a_log_is_rotated_by_its_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "LOG_BYTES", "10KB")
    talk = "import time\nfor _ in range(50_000): print('x' * 99)\nprint('end', flush=True)\ntime.sleep(600)"  # 5 MB
    world.start("a", [sys.executable, "-c", talk])
    # The last line is in the newest file, or in the one before if that was full; either may be renamed meanwhile.
    wait_until(lambda: any("end" in tail(world.log("a").with_name(name), 1) for name in ("a.log", "a.log.1")))
    kept = list(world.settings.run_dir.glob("a.log*"))
    assert len(kept) == 4
    assert sum(file.stat().st_size for file in kept) < 1_000_000  # what was read at once goes into one file
