import importlib.metadata
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from torch import nn

from serving.settings import ROOT
from tests.support.documents import document
from tests.support.training.trainings import load
from training import recipes
from training.packaging.lineage import PACKAGES, lineage
from training.packaging.registration import Result
from training.recipe import Trained

NOW = datetime(2013, 2, 17, 12, 30, 0, 999, tzinfo=UTC)
# Nothing of whoever runs the tests.
IDENTITY = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
IDENTITY |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


@pytest.fixture
def trained_linear() -> Trained:
    recipe = recipes.find("linear")
    history = [{"epoch": float(epoch), "loss": 1 / epoch} for epoch in range(1, 301)]
    return Trained(recipe, recipe.preset(None), load(recipe), nn.Identity(), 1.2345, history, preset="default")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", folder, *arguments], env=os.environ | IDENTITY, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit."""
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("committed")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_it_records_data_hyperparameters_rows_versions_and_time(trained_linear: Trained) -> None:
    found = document(lineage(trained_linear, ROOT, NOW))
    assert found["data_sha256"] == trained_linear.data.sha256
    assert found["preset"] == "default"
    assert found["hyperparameters"]["epochs"] == 300
    assert found["hyperparameters"]["optimizer"] == "sgd"
    assert found["rows"] == {"train": 5, "test": 1001}
    assert found["fit_seconds"] == 1.2
    assert found["packages"] == {name: importlib.metadata.version(name) for name in PACKAGES}
    assert found["created"] == "2013-02-17T12:30:00+00:00"


def test_the_learning_curve_is_thinned(trained_linear: Trained) -> None:
    history = document(lineage(trained_linear, ROOT, NOW))["history"]
    assert len(history) == 20
    assert [entry["epoch"] for entry in history[:3]] == [1, 16, 31]
    trained_linear.history[20:] = []
    assert document(lineage(trained_linear, ROOT, NOW))["history"] == trained_linear.history


def test_the_commit_is_that_of_the_repository(trained_linear: Trained, repository: Path) -> None:
    assert document(lineage(trained_linear, repository, NOW))["git_commit"] == git(repository, "rev-parse", "HEAD")


def test_a_tag_does_not_hide_the_commit(trained_linear: Trained, repository: Path) -> None:
    git(repository, "tag", "-a", "v1", "-m", "first release")
    assert document(lineage(trained_linear, repository, NOW))["git_commit"] == git(repository, "rev-parse", "HEAD")


def test_files_that_differ_from_the_commit_make_it_dirty(trained_linear: Trained, repository: Path) -> None:
    (repository / "file").write_text("changed")
    head = git(repository, "rev-parse", "HEAD")
    assert document(lineage(trained_linear, repository, NOW))["git_commit"] == f"{head}-dirty"


def test_without_a_repository_or_git_the_commit_is_unknown(
    trained_linear: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert document(lineage(trained_linear, tmp_path, NOW))["git_commit"] == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert document(lineage(trained_linear, ROOT, NOW))["git_commit"] == "unknown"


def test_an_image_without_git_records_the_commit_that_it_was_built_from(
    trained_linear: Trained, tmp_path: Path
) -> None:
    (tmp_path / "COMMIT").write_text("3d834806\n")
    assert document(lineage(trained_linear, tmp_path, NOW))["git_commit"] == "3d834806"
    (tmp_path / "COMMIT").write_text("\n")  # a build that was not told
    assert document(lineage(trained_linear, tmp_path, NOW))["git_commit"] == "unknown"


def test_the_contract_of_a_trained_model_has_its_lineage_with_parity_and_graphs(linear: Result) -> None:
    found = document(linear.contract.lineage)
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", found["git_commit"])
    assert datetime.fromisoformat(found["created"]).tzinfo is not None
    assert found["parity"].keys() == {"rows", "onnxruntime", "torch"}
    assert found["graph_sha256"].keys() == {"model.onnx", "model.pt2"}
