"""docs/bring-your-model.md shows what its commands print."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

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
CUT = "[…]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the page shows, each with its name in the first line, and those that its program leaves."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.S):
        (folder / name).write_text(content)
    for name in (name for name, package in PROGRAMS.items() if find_spec(package)):
        program = [sys.executable, f"{name}_elsewhere.py"]
        done = subprocess.run(program, cwd=folder, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr.decode()
    return folder


def shown() -> list[tuple[str, str]]:
    """The commands of the page, each with what it prints."""
    return re.findall(r"```sh\n(?:python -m )?((?:marloop|training) [^\n]*)\n```\n```text\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize(("command", "expected"), shown(), ids=[command for command, _ in shown()])
def test_each_command_prints_what_the_page_shows(folder: Path, tmp_path: Path, command: str, expected: str) -> None:
    if " import " in command and not (folder / command.split()[2]).exists():
        pytest.skip("its library is not installed: pip install -e '.[dev]'")
    env = os.environ | {"MARLOOP_MODEL_STORE": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", *shlex.split(line)]
        return subprocess.run(whole, cwd=folder, env=env, capture_output=True, text=True, timeout=300)

    if command.split()[1] == "report":  # of a model that another command of the page imports
        (brought,) = (line for line, _ in shown() if f"--name {command.split()[2]} " in line)
        assert run(brought).returncode == 0
    done = run(command)
    printed = plain(done.stdout.replace(str(tmp_path), "model_store"))
    _, cut, end = expected.rpartition(CUT)
    assert printed.endswith(plain(end)) if cut else printed == plain(expected), done.stdout + done.stderr


def plain(text: str) -> str:
    """The text without what differs between machines: bytes of a file, the last digits of metrics and of sums."""
    text = re.sub(r"[\d,]+ bytes", "N bytes", text)
    text = re.sub(r"differ by \d+e-\d+", "differ by a little", text)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", text)
