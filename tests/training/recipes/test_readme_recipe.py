"""docs/models.md's promise: a new model is one file."""

import shutil
import subprocess
import sys
from pathlib import Path

from serving.registry import Registry
from serving.settings import ROOT
from tests import readme


def test_the_recipe_on_the_page_about_models_trains_to_a_registered_archive(tmp_path: Path) -> None:
    for room in ("handlers", "serving", "training"):
        shutil.copytree(ROOT / room, tmp_path / room)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "training" / "recipes" / "iris.py").write_text(readme.recipe())
    command = [sys.executable, "-m", "training", "train", "iris"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    _, version = Registry(tmp_path / "model_store").champions()["iris"]
    assert version.evaluation["metrics"]["accuracy"] > 0.9
