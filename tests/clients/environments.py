"""Clients of other projects, each in an environment of its own, where their packages do not meet ours.

A folder beside this file holds a client's ``requirements.txt`` and programs. ``make clients`` installs them into
``.clients``; a test of one that is not there is skipped, and says so.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench import environments

HERE = Path(__file__).parent
ROOT = HERE.parents[1] / ".clients"


def names() -> list[str]:
    """The clients that there are."""
    return sorted(path.parent.name for path in HERE.glob("*/requirements.txt"))


def run(client: str, program: str, *arguments: str) -> Any:
    """Run a program of a client, and read the JSON that it prints.

    Args:
        client: a folder beside this file.
        program: a file in it.
        arguments: of the program.
    """
    if not environments.is_installed(client, ROOT, HERE):
        pytest.skip(f"the client {client} is not installed: run `make clients`")
    python = ROOT / client / "bin" / "python"
    command = [str(python), str(HERE / client / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if __name__ == "__main__":
    for name in sys.argv[1:] or names():
        environments.ensure(name, ROOT, print, HERE)
