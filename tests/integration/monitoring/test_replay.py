"""Eleven days of the year of flights, lived through by the command: the loop finds its version stale, and acts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.processes import commands
from serving.settings import ROOT
from tests.support.monitoring.programs import need
from tests.support.waiting import wait_until

COMMAND = [sys.executable, "-m", "monitoring", "replay"]
JUNE = ["--from", "2013-06-01", "--to", "2013-06-12", "--share", "0.5"]
LIMIT = 600  # s; two minutes on a machine that does nothing else


def left(folder: Path) -> list[list[str]]:
    """What still runs and names the folder."""
    return [command for _, command in commands() if any(str(folder) in part for part in command)]


def test_a_stale_version_is_replaced_by_one_that_errs_less_and_nobody_did_it(tmp_path: Path) -> None:
    need("prometheus")
    need("prometheus-alertmanager", "alertmanager")
    folder = tmp_path / "replay"
    # What a service beside it is set to is not for it.
    environment = os.environ | {"MARLOOP_TOKEN": "secret", "MARLOOP_RETRAIN": "off", "CAPTURE_URL": "off"}
    command = [*COMMAND, *JUNE, "--folder", str(folder), "--output", str(tmp_path / "docs")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads((tmp_path / "docs" / "practices" / "closed-loop.json").read_text())
    first = result["jobs"][0]
    assert (first["trigger"], first["state"], first["version"]) == ("alert", "promoted", "1.1"), done.stdout
    assert first["reason"].startswith(("ModelQualityFell: flights", "ModelDrift: flights"))
    before = [day for day in result["days"] if day["champion"] == "1.0"]
    after = [day for day in result["days"] if day["date"] > first["day"]]
    assert all(abs(day["loop"] - day["frozen"]) < 0.01 for day in before if day["date"] < first["day"])
    assert len(after) >= 3
    assert sum(day["loop"] for day in after) < 0.8 * sum(day["frozen"] for day in after)
    (june,) = result["rows"]
    assert june["loop"] < june["frozen"]
    assert f"| 2013-06 | {june['rows']:,} | {june['frozen']:.2f} | {june['loop']:.2f} |" in done.stdout
    assert left(folder) == []


@pytest.mark.loop
@pytest.mark.usefixtures("interruptible")
def test_interrupted_it_stops_all_that_it_started_and_says_how_to_go_on(tmp_path: Path) -> None:
    need("prometheus")
    need("prometheus-alertmanager", "alertmanager")
    folder, log = tmp_path / "replay", tmp_path / "log"
    with log.open("wb") as output:
        command = [*COMMAND, *JUNE, "--folder", str(folder)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until(lambda: "started the prometheus" in log.read_text(), timeout=LIMIT)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 1
    finally:
        process.kill()
        process.wait()
    assert "interrupted; started again, it begins anew" in log.read_text()
    assert left(folder) == []
