"""Recipes outside the checkout, in the folders of MARLOOP_RECIPES, and the models of MARLOOP_MODELS."""

from pathlib import Path

import pytest

from monitoring.retraining.versions import unfit
from serving.settings import ROOT, RecipeSettings
from tests.training.conftest import Commands
from training import recipes
from training.data import sha256
from training.packaging.lineage import source

OWN = """
from training.recipes.linear import Linear

from ._shared import description as described


class Mine(Linear):
    name = "{name}"
    description = described


recipe = Mine()
"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders of recipes, `mine` and `yours`, each with a helper of the same name."""
    folders = [tmp_path / "recipes", tmp_path / "more recipes"]
    for folder, name in zip(folders, ("mine", "yours"), strict=True):
        folder.mkdir()
        (folder / "_shared.py").write_text(f"description = 'a line of {name}'\n")
        (folder / f"{name}.py").write_text(OWN.format(name=name))
    monkeypatch.setenv("MARLOOP_RECIPES", ":".join(map(str, folders)))
    return folders


@pytest.mark.usefixtures("folders")
def test_they_are_recipes_like_those_here_and_share_what_lies_beside_them(training: Commands) -> None:
    assert {"linear", "mine", "yours"} <= set(recipes.names())
    assert recipes.find("mine").description == "a line of mine"
    assert recipes.find("yours").description == "a line of yours"
    code, output = training("list")
    assert code == 0
    assert "mine         a line of mine (presets: default, tutorial)\n" in output


def test_they_are_trained_and_the_lineage_tells_their_source(training: Commands, folders: list[Path]) -> None:
    code, output = training("train", "mine", "--preset", "tutorial")
    assert code == 0, output
    contract = training.registry.champion_contract("mine")
    source = contract.lineage.recipe
    assert source
    content = [(folders[0] / name).read_bytes() for name in ("mine.py", "_shared.py")]
    assert (source.file, source.git_commit, source.sha256) == ("mine.py", "unknown", sha256(*content))
    assert contract.lineage.git_commit
    assert unfit(contract) is None  # so that the monitor can train it again
    (folders[0] / "mine.py").unlink()
    assert "mine has no recipe under training/recipes or in MARLOOP_RECIPES" in str(unfit(contract))


def test_the_file_of_a_recipe_is_known_wherever_it_lies(folders: list[Path]) -> None:
    assert recipes.file_of("mine") == folders[0] / "mine.py"
    assert recipes.file_of("linear") == ROOT / "training" / "recipes" / "linear.py"
    assert recipes.file_of("wine") is None
    assert getattr(source(folders[0] / "mine.py", ROOT), "file", None) == "mine.py"
    assert source(ROOT / "training" / "recipes" / "chat.py", ROOT) is None


def test_what_a_search_finds_lies_beside_the_recipe(folders: list[Path]) -> None:
    assert recipes.find("mine").found_file == folders[0] / "presets" / "mine.json"
    assert recipes.find("linear").found_file == ROOT / "training" / "presets" / "linear.json"


def test_names_that_clash_are_a_sentence_and_the_others_work(training: Commands, folders: list[Path]) -> None:
    for name in ("mine", "linear"):
        (folders[1] / f"{name}.py").write_text(OWN.format(name=name))
    both = f"mine is the name of two recipes, in {folders[0]} and {folders[1]}: rename one"
    assert training("train", "mine") == (1, f"error: {both}\n")
    assert training("train", "linear") == (
        1,
        f"error: linear is the name of two recipes, in training/recipes and {folders[1]}: rename one\n",
    )
    assert recipes.find("yours").name == "yours"


def test_a_recipe_that_fails_is_named_with_its_own_path(training: Commands, folders: list[Path]) -> None:
    (folders[0] / "_shared.py").write_text("\nvalue = 1 / 0\n")
    code, output = training("train", "mine")
    assert (code, output) == (1, f"error: {folders[0]}/_shared.py, line 2: ZeroDivisionError: division by zero\n")


def test_a_folder_that_is_none_is_an_error_that_names_it(training: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARLOOP_RECIPES", "/nowhere")
    expected = (1, "error: MARLOOP_RECIPES names /nowhere, which is no folder\n")
    assert training("train", "linear") == training("list") == training("ensure") == expected


def test_a_relative_folder_starts_at_the_checkout() -> None:
    settings = RecipeSettings.from_environment({"MARLOOP_RECIPES": "own:/srv/recipes"})
    assert settings.folders == [ROOT / "own", Path("/srv/recipes")]


def test_the_models_to_train_are_named_none_or_left_to_the_recipes() -> None:
    def names(**environ: str) -> list[str] | None:
        return RecipeSettings.from_environment(environ).names

    assert names(MARLOOP_MODELS="flights, chat mine") == ["flights", "chat", "mine"]
    assert names(MARLOOP_MODELS="") == []
    assert names() is None


def test_models_that_are_not_named_are_not_trained(training: Commands) -> None:
    assert training("ensure", MARLOOP_MODELS="") == (0, "")
    assert not training.registry.store.exists()


@pytest.mark.usefixtures("bare_machine")
def test_what_cannot_be_had_is_told_and_the_rest_goes_on(training: Commands) -> None:
    code, output = training("ensure", MARLOOP_MODELS="wine fashion linear")
    assert code == 0, output
    assert "error: there is no recipe 'wine'; there are chat, " in output
    assert "error: Fashion-MNIST is not here and could not be fetched" in output
    assert training.champions() == {"linear": "1.0"}
