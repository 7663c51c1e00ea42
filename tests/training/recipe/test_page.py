"""docs/models.md shows what ``new`` prints, and what it writes."""

import os
import re
import subprocess
import sys
from pathlib import Path

from serving.settings import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text()


def test_the_page_shows_what_the_command_prints_and_writes(tmp_path: Path) -> None:
    match = re.search(r"```sh\n(python -c .*?)```\n\n```text\n(.*?)```.*?```py\n(TABLE.*?)```", PAGE, re.S)
    assert match
    commands, printed, table = match.groups()
    commands = commands.replace("python ", f"{sys.executable} ").replace("marloop ", f"{sys.executable} -m marloop ")
    env = os.environ | {"MARLOOP_RECIPES": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout.replace("weather.py", "training/recipes/weather.py") == printed, done.stderr
    assert table in (tmp_path / "weather.py").read_text()
