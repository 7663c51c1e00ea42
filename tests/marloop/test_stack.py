"""``marloop up``, ``status`` and ``down``, as processes of their own, far from the checkout."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving.settings import ROOT, on_free_ports
from tests.support.waiting import wait_until
from training.recipes import linear

SLOW = """
    def load(self, hp, cache):
        import time
        from pathlib import Path
        Path("{mark}").touch()
        time.sleep(600)

    def unused(self, hp: LinearHyperparameters, cache: Path) -> Data:
"""
LONGEST = 300  # s, on a busy machine
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a verb on ports and folders of the test's own, in a folder whose `serving` is another's."""
    settings = on_free_ports(tmp_path / "store", tmp_path / "run")
    (tmp_path / "elsewhere" / "serving").mkdir(parents=True)
    (tmp_path / "elsewhere" / "serving" / "__main__.py").write_text("raise SystemExit('another program')")
    own = settings.to_environment() | {"PYTHONPATH": str(ROOT), "MARLOOP_ENV_FILE": "off", "MARLOOP_MODELS": ""}

    begun: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "marloop", *arguments],
            cwd=tmp_path / "elsewhere",
            env=os.environ | own | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group, to which a terminal sends Ctrl-C
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LONGEST)
    return process.returncode, out, err


def test_status_and_down_where_nothing_runs_are_those_of_all_programs(start: Start) -> None:
    said = "TorchServe does not run: `make up` starts it\nmonitor: does not run: `make up` starts it\n"
    assert ended(start("status")) == (1, said, "")
    assert ended(start("down")) == (0, "no monitor ran\nnothing ran\n", "")


def test_status_in_json_is_one_document(start: Start) -> None:
    code, out, err = ended(start("status", "--json"))
    status = json.loads(out)
    assert (code, err) == (1, "")
    assert (status["serving"]["host"], status["serving"]["good"]) == ("torchserve", False)
    assert (status["monitoring"]["running"], status["monitoring"]["ready"]) == (False, False)


def test_up_ends_with_the_first_program_that_fails(start: Start) -> None:
    code, out, _ = ended(start("up", MARLOOP_MODELS="wine"))
    assert code == 1
    assert out.startswith("error: there is no recipe 'wine'")
    assert "answers" not in out


def test_up_reads_its_settings_before_it_trains(start: Start) -> None:
    code, out, _ = ended(start("up", "--host", "direct", MARLOOP_INFERENCE_PORT="http", MARLOOP_MODELS="wine"))
    assert (code, out) == (1, "error: MARLOOP_INFERENCE_PORT is 'http'; it must be a port from 1 to 65535\n")


def test_up_says_before_it_trains_that_an_open_address_needs_a_key(start: Start, tmp_path: Path) -> None:
    code, out, err = ended(start("up", "--host", "direct", MARLOOP_BIND_ADDRESS="0.0.0.0", MARLOOP_MODELS="linear"))
    assert code == 1
    assert "no API key guards it" in out + err
    assert not (tmp_path / "store").exists()


@pytest.fixture
def training(start: Start, tmp_path: Path) -> subprocess.Popen[str]:
    """`marloop up` in the midst of a training that takes ten minutes."""
    mark, recipes = tmp_path / "begun", tmp_path / "recipes"
    recipes.mkdir()
    source = Path(linear.__file__).read_text(encoding="utf-8").replace('name = "linear"', 'name = "slow"')
    head, body = source.split("    def load(self, hp: LinearHyperparameters, cache: Path) -> Data:\n")
    (recipes / "slow.py").write_text(head + SLOW.format(mark=mark).lstrip("\n") + body)
    process = start("up", MARLOOP_RECIPES=str(recipes), MARLOOP_MODELS="slow", MARLOOP_RUNS=str(tmp_path / "runs"))
    wait_until(lambda: mark.exists() or process.poll() is not None, timeout=LONGEST)
    assert mark.exists(), ended(process)
    return process


def test_ctrl_c_ends_the_program_that_runs_in_its_own_way(training: subprocess.Popen[str]) -> None:
    os.killpg(training.pid, signal.SIGINT)
    code, out, err = ended(training)
    assert code == 130
    assert "interrupted; the same command goes on from the last checkpoint" in out
    assert "Traceback" not in out + err


def test_what_ends_it_ends_the_program_that_runs(training: subprocess.Popen[str]) -> None:
    (child,) = psutil.Process(training.pid).children()
    training.terminate()
    assert ended(training)[0] == 143
    wait_until(lambda: not child.is_running())
