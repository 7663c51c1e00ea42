"""The unit of systemd, which looks after the supervisor."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from serving.settings import ROOT, Settings
from serving.supervision.supervisor import Supervisor
from tests.support.waiting import wait_until

UNIT = ROOT / "deploy" / "marloop.service"
NODE = ROOT / "deploy" / "ray" / "marloop-ray-node.service"


def unit(folder: Path, user: str = "root", file: Path = UNIT) -> str:
    """The unit for a clone in a folder."""
    return file.read_text(encoding="utf-8").replace("/opt/marloop", str(folder)).replace("User=marloop", f"User={user}")


@pytest.mark.parametrize("source", [UNIT, NODE], ids=lambda source: source.name)
def test_systemd_understands_every_line(tmp_path: Path, source: Path) -> None:
    program, make = shutil.which("systemd-analyze"), shutil.which("make")
    if program is None or make != "/usr/bin/make":
        pytest.skip("systemd-analyze or /usr/bin/make is not here: install Debian's systemd and make")
    file = tmp_path / source.name
    file.write_text(unit(ROOT, file=source))
    done = subprocess.run([program, "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=60)
    told = [line for line in (done.stdout + done.stderr).splitlines() if source.name in line]
    assert (told, done.returncode) == ([], 0)


def test_the_process_that_systemd_watches_is_the_supervisor(settings: Settings, tmp_path: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(unit(tmp_path))
    own = replace(settings, run_dir=tmp_path / "run")
    supervisor = Supervisor(own)
    try:
        supervisor.start("a", ["/bin/sleep", "600"], own.run_dir / "a.log", "http://127.0.0.1:1/", {})
        file = Path(parser["Service"]["PIDFile"])
        wait_until(file.exists)
        process = supervisor.find()
        assert process is not None
        assert int(file.read_text(encoding="utf-8")) == process.pid
    finally:
        supervisor.end()


def test_what_ends_it_starts_it_anew_and_nothing_that_it_left_stays() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(UNIT.read_text())
    service = parser["Service"]
    assert (service["Restart"], service["Type"]) == ("always", "forking")
    assert service.get("KillMode", "control-group") == "control-group"
