"""A container has one part under a supervisor in the foreground: ``marloop status`` there tells of that part alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from serving.ports import free_ports
from serving.settings import ROOT, Settings
from serving.supervision.supervisor import Supervisor, supervisor_of
from tests.support.waiting import wait_until


@pytest.fixture
def exporter(settings: Settings) -> Iterator[Settings]:
    """What a container of the exporter runs, with its settings."""
    own = replace(settings, exporter_port=free_ports(1)[0])
    command = [sys.executable, "-m", "serving", "supervise", "exporter"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(own), stdout=subprocess.DEVNULL) as process:
        yield own
        process.terminate()


def environment(settings: Settings) -> dict[str, str]:
    return os.environ | settings.to_environment() | {"TMPDIR": os.environ["TMPDIR"]}


def status(settings: Settings, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "marloop", "status", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment(settings), capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_status_in_a_container_tells_of_its_part_and_is_good_where_that_runs(exporter: Settings) -> None:
    wait_until(lambda: status(exporter)[0] == 0, poll=1)
    code, said = status(exporter)
    assert said.startswith("exporter: runs for ")
    assert said.count("\n") == 1, said
    code, document = status(exporter, "--json")
    assert (code, json.loads(document)["monitoring"]) == (0, None)
    assert [part["name"] for part in json.loads(document)["serving"]["parts"]] == ["exporter"]


def test_where_nothing_runs_in_the_foreground_the_supervisor_is_the_one_of_the_run_folder(
    settings: Settings,
) -> None:
    assert not supervisor_of(settings).foreground
    left = Supervisor(settings, foreground=True)
    left.folder.mkdir(parents=True)
    left.config.touch()  # by one that ended
    assert not supervisor_of(settings).foreground
