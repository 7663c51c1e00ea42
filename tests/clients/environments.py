"""Clients of other projects, each in an environment of its own, where their packages do not meet ours.

A folder beside this file holds a client's ``requirements.txt``, or ``package.json`` for Node, and programs. ``make
clients`` installs them into ``.clients``; a test of one that is not there is skipped, and says so.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench import environments

HERE = Path(__file__).parent
ROOT = HERE.parents[1] / ".clients"
PACKAGE = "package.json"


def names() -> list[str]:
    """The clients that there are."""
    return sorted(path.parent.name for path in HERE.glob("*/*") if path.name in ("requirements.txt", PACKAGE))


def run(client: str, program: str, *arguments: str) -> Any:
    """Run a program of a client, and read the JSON that it prints.

    Args:
        client: a folder beside this file.
        program: a file in it.
        arguments: of the program.
    """
    folder = ROOT / client
    node = (HERE / client / PACKAGE).is_file()
    if not (_has_packages(client) if node else environments.is_installed(client, ROOT, HERE)):
        pytest.skip(f"the client {client} is not installed: run `make clients`")
    command = [str(folder / "bin" / "python"), str(HERE / client / program)]
    if node:  # it looks for packages beside the program
        command = ["node", str(shutil.copy(HERE / client / program, str(folder)))]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ensure(client: str) -> None:
    """Install a client where it is not installed as its file pins it."""
    source = HERE / client / PACKAGE
    if not source.is_file():
        environments.ensure(client, ROOT, print, HERE)
    elif not _has_packages(client):
        folder = ROOT / client
        shutil.rmtree(folder, ignore_errors=True)  # a file of the same name is the sign that it is whole
        folder.mkdir(parents=True)
        scratch = shutil.copy(source, folder / "package.json.new")
        subprocess.run(
            ["npm", "install", "--silent", "--no-fund", "--no-audit", *_pinned(source)], check=True, cwd=folder
        )
        Path(scratch).replace(folder / PACKAGE)


def _has_packages(client: str) -> bool:
    installed = ROOT / client / PACKAGE
    return installed.is_file() and installed.read_bytes() == (HERE / client / PACKAGE).read_bytes()


def _pinned(source: Path) -> list[str]:
    dependencies: dict[str, str] = json.loads(source.read_text(encoding="utf-8"))["dependencies"]
    return [f"{name}@{version}" for name, version in dependencies.items()]


if __name__ == "__main__":
    for name in sys.argv[1:] or names():
        ensure(name)
