"""docs/bring-your-model.md shows what its commands print."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from marloop.group import group
from serving.settings import ROOT

PAGE = (ROOT / "docs" / "bring-your-model.md").read_text()
# Each with a package that may be absent.
PROGRAMS = {
    "train": "torch",
    "trees": "onnxmltools",
    "catboost": "catboost",
    "unconverted": "skl2onnx",
    "folders": "transformers",
    "archive": "ts",
    "pictures": "torch",
}
# One process runs them all, each as if it were alone, so that what they import is imported once.
EACH = "import runpy, sys\nfor name in sys.argv[1:]: runpy.run_path(name, run_name='__main__')"
CUT = "[…]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the page shows, each with its name in the first line, and those that its program leaves."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.S):
        (folder / name).write_text(content)
    programs = [f"{name}_elsewhere.py" for name, package in PROGRAMS.items() if find_spec(package)]
    done = subprocess.run([sys.executable, "-c", EACH, *programs], cwd=folder, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr.decode()
    return folder


def shown() -> list[tuple[str, str]]:
    """The commands of the page, each with what it prints."""
    return re.findall(r"```sh\n(?:python -m )?((?:marloop|training) [^\n]*)\n```\n```text\n(.*?)```", PAGE, re.S)


Run = Callable[[str], str]


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command of the page in this process, in the folder of the page's files; returns what it prints."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MARLOOP_MODEL_STORE", str(tmp_path))

    def call(line: str) -> str:
        with pytest.raises(SystemExit):  # as every command ends
            group()(shlex.split(line)[1:], prog_name="marloop")
        return capsys.readouterr().out

    return call


def needs_what_is_there(folder: Path, command: str) -> None:
    """Skip where a program of the page could not leave what a command imports."""
    if " import " in command and not (folder / command.split()[2]).exists():
        pytest.skip("its library is not installed: pip install -e '.[dev]'")


@pytest.mark.parametrize(("command", "expected"), shown(), ids=[command for command, _ in shown()])
def test_each_command_prints_what_the_page_shows(
    folder: Path, tmp_path: Path, run: Run, command: str, expected: str
) -> None:
    needs_what_is_there(folder, command)
    if command.split()[1] == "report":  # of a model that another command of the page imports
        (brought,) = (line for line, _ in shown() if f"--name {command.split()[2]} " in line)
        assert "champion" in run(brought)
    check_printed(run(command), expected, tmp_path)


def test_a_command_of_the_page_prints_the_same_in_a_process_of_its_own(folder: Path, tmp_path: Path) -> None:
    command, expected = next((command, expected) for command, expected in shown() if "--module" in command)
    env = os.environ | {"MARLOOP_MODEL_STORE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    whole = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(whole, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    check_printed(done.stdout, expected, tmp_path)


def check_printed(output: str, expected: str, store: Path) -> None:
    """Compare what was printed with the page, of which a beginning may be cut."""
    printed = plain(output.replace(str(store), "model_store"))
    _, cut, end = expected.rpartition(CUT)
    assert printed.endswith(plain(end)) if cut else printed == plain(expected), output


def plain(text: str) -> str:
    """The text without what differs between machines: bytes of a file, the last digits of metrics and of sums."""
    text = re.sub(r"[\d,]+ bytes", "N bytes", text)
    text = re.sub(r"differ by \d+e-\d+", "differ by a little", text)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", text)
