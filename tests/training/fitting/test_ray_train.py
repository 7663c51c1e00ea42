"""Ray Train starts our training in several processes of a real cluster; skipped where the extra is not installed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.registry import Registry
from serving.settings import ROOT
from tests.support.serving.ray import Head, ray_head

pytestmark = pytest.mark.ray
BROKEN = """
from training.recipes.linear import Linear


class Broken(Linear):
    name = "broken"

    def augment(self, inputs, hp):
        raise RuntimeError("the sensor was off")


recipe = Broken()
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    for package in ("pyarrow", "pandas"):
        pytest.importorskip(package, reason=f"Ray Train needs {package}: pip install 'ray[train]'")
    with ray_head(tmp_path_factory.mktemp("ray") / "ray.log") as head:
        yield head


def train(head: Head, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What the program prints."""
    folders = {"MARLOOP_MODEL_STORE": str(folder / "store"), "MARLOOP_RUNS": str(folder / "runs")}
    command = [sys.executable, "deploy/ray/train.py", *arguments]
    environ = os.environ | head.environ | folders | variables
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)


def test_two_processes_train_one_model_which_the_first_registers(head: Head, tmp_path: Path) -> None:
    done = train(head, tmp_path, "linear", "--processes", "2", "--preset", "tutorial")
    assert done.returncode == 0, done.stdout + done.stderr
    registry = Registry(tmp_path / "store")
    assert list(registry.models()["linear"]) == ["1.0"]
    prediction = registry.champion_contract("linear").example.response["prediction"]
    assert isinstance(prediction, float)


def test_a_training_that_fails_in_its_processes_says_why_and_ends_as_failed(head: Head, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "broken.py").write_text(BROKEN)
    done = train(head, tmp_path, "broken", MARLOOP_RECIPES=str(tmp_path / "recipes"))
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "the sensor was off" in output
    assert "broken could not be trained: the output of its processes says why" in output
    assert not Registry(tmp_path / "store").models()


def test_a_recipe_that_there_is_not_is_told_before_anything_is_started(tmp_path: Path) -> None:
    nowhere = Head("127.0.0.1:1", "http://127.0.0.1:1", "none")
    done = train(nowhere, tmp_path, "nothing")
    assert done.returncode == 1
    assert "there is no recipe 'nothing'" in done.stdout + done.stderr
