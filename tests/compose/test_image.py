"""What the Dockerfile makes by itself, tried without an engine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.settings import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture
def marloop(tmp_path: Path) -> Path:
    """The script `marloop` of both images, for this checkout in place of theirs."""
    (base,) = re.findall(r"^FROM \S+ AS base$(.*?)^FROM", DOCKERFILE, re.DOTALL | re.MULTILINE)
    (printed,) = re.findall(r"RUN (printf '.*?') > /usr/local/bin/marloop", base)
    done = subprocess.run(["sh", "-c", printed], capture_output=True, text=True, check=True)
    script = tmp_path / "marloop"
    script.write_text(done.stdout.replace("/app", str(ROOT)))
    script.chmod(0o755)
    return script


def test_both_images_have_the_script(marloop: Path) -> None:
    assert re.findall(r"^FROM base AS (\w+)$", DOCKERFILE, re.MULTILINE) == ["direct", "torchserve"]
    assert marloop.read_text(encoding="utf-8").startswith("#!/bin/sh\nexec ")


def test_the_script_is_marloop_whatever_lies_where_it_is_called(marloop: Path, tmp_path: Path) -> None:
    for name in ("marloop", "serving", "typer"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        (tmp_path / "elsewhere" / name / "__init__.py").write_text("raise SystemExit('another program')")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [str(marloop), "promote", "a model", "1.0"]
    environ = os.environ | {"PATH": path, "MARLOOP_MODEL_STORE": str(tmp_path / "store")}
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "error: a model 1.0 is not registered; there are none\n"), done.stderr


def test_no_path_of_an_image_names_a_version_of_python() -> None:
    assert re.findall(r"python3\.\d+/", DOCKERFILE) == []
