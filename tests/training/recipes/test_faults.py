"""A recipe that cannot be used stops its own model alone, and the sentence about it names file, line and cause."""

import subprocess
import sys
from pathlib import Path

import pytest

from serving.settings import ROOT
from tests.training.conftest import Commands
from training import recipes
from training.recipes import linear as linear_source

BROKEN = {  # name of a file: its content, and what is said about it
    "unfinished_line": ("def load(self:\n", "line 1: SyntaxError: "),
    "unknown_name": ("from torch import nn\n\nrecipe = Iris()\n", "line 3: NameError: name 'Iris' is not defined"),
    "unknown_module": ("\nimport no_such_package\n", "line 2: ModuleNotFoundError: No module named 'no_such_package'"),
    "ends": ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
    "no_text": ("recipe = '\xff'\n", "SyntaxError: "),
    "without": ("def helper():\n    return 1\n", " has no `recipe = …`; the name of a file without"),
    "a_class": ("from training.recipes.linear import Linear as recipe\n", ": its `recipe` is the class Linear; it "),
    "a_number": ("recipe = 7\n", ": its `recipe` is of the type int; it must be an object of a recipe's class"),
    "of_another_name": (
        "from training.recipes.linear import Linear\nrecipe = Linear()\n",
        ": the recipe's name is 'linear'; it must be the file's, 'of_another_name'",
    ),
    "lacks": (
        "from training.recipe import Recipe\nfrom training.recipes.linear import Linear\n"
        "class Mine(Recipe):\n    task = 'classification'\n    load = module = baselines = None\n\nrecipe = Mine()\n",
        ": Mine lacks name, description, presets, labels",
    ),
    "abstract": (
        "from training.recipe import Recipe\nclass Mine(Recipe):\n    name = 'abstract'\n\nrecipe = Mine()\n",
        "line 5: TypeError: Can't instantiate abstract class Mine",
    ),
    "vector": (
        "from handlers.contract import TensorSpec\nfrom training.recipes.linear import Linear\nclass Mine(Linear):\n"
        "    name = 'vector'\n    outputs = (TensorSpec('y', 'FP32', (-1, 3)),)\n\nrecipe = Mine()\n",
        ": Mine's outputs have the shapes [[-1, 3]]; a regression's have the shape [-1], a number a row: "
        "of a vector, name each number",
    ),
    "uses_a_helper": ("from training.recipes._shared import value\n", "_shared.py, line 1: ZeroDivisionError: "),
}
HALF_WRITTEN = """
from training.recipes.linear import Linear


class Mine(Linear):
    name = "half_written"

    def load(self, hp, cache):
        {body}


recipe = Mine()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes, linear alone, in place of the tree's."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "linear.py").write_text(Path(linear_source.__file__).read_text(encoding="utf-8"))
    monkeypatch.setattr(recipes, "__path__", [str(folder)])
    for name in (*BROKEN, "half_written", "_shared"):
        monkeypatch.delitem(sys.modules, f"training.recipes.{name}", raising=False)
    return folder


@pytest.fixture
def broken(folder: Path) -> Path:
    """The folder with every broken recipe beside linear."""
    (folder / "_shared.py").write_text("value = 1 / 0\n")
    for name, (content, _) in BROKEN.items():
        (folder / f"{name}.py").write_bytes(content.encode("latin-1" if name == "no_text" else "utf-8"))
    return folder


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_recipe_is_a_sentence(training: Commands, broken: Path, name: str) -> None:
    code, output = training("train", name)
    assert code == 1
    assert output.startswith(f"error: {broken}"), output
    assert BROKEN[name][1] in output
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize("command", ["fetch", "report", "package", "learning-curve", "ablate", "export", "optimize"])
def test_a_broken_recipe_is_a_sentence_in_every_command(training: Commands, broken: Path, command: str) -> None:
    code, output = training(command, "lacks")
    assert (code, output) == (1, f"error: {broken}/lacks.py{BROKEN['lacks'][1]}\n")


def test_the_other_models_are_listed_and_trained(training: Commands, broken: Path) -> None:
    code, listed = training("list")
    assert code == 0
    assert "\nlinear       y = 2x" in listed
    code, trained = training("ensure")
    assert code == 0, trained
    assert training.champions() == {"linear": "1.0"}
    for name, (_, said) in BROKEN.items():
        assert f"\n{name:12} cannot be used: {broken}" in f"\n{listed}"
        assert said in listed
        assert said in trained


def test_a_model_that_is_named_and_fails_is_an_exit_code(training: Commands, broken: Path) -> None:
    assert training("ensure", "lacks")[0] == 1


def test_where_nothing_is_left_to_serve_the_exit_code_says_so(training: Commands, broken: Path) -> None:
    (broken / "linear.py").unlink()
    assert training("ensure")[0] == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", "AttributeError: 'NoneType' object has no attribute 'train'"),
        ("return [][0]", "half_written.py, line 9: IndexError: list index out of range"),
        ("return {}['column']", "half_written.py, line 9: KeyError: 'column'"),
        ("return int('x')", "half_written.py, line 9: ValueError: invalid literal for int()"),
    ],
)
def test_a_half_written_recipe_is_a_sentence_too(training: Commands, folder: Path, body: str, said: str) -> None:
    (folder / "half_written.py").write_text(HALF_WRITTEN.format(body=body))
    code, output = training("train", "half_written")
    assert code == 1
    assert said in output.splitlines()[-1]
    assert "Traceback" not in output


def test_help_imports_no_recipe() -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom training.__main__ import app\n"
        "CliRunner().invoke(app, ['--help'])\nprint([name for name in sys.modules if 'training.recipes' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", ["linear", "fashion", "chat"])
def test_the_recipes_here_are_whole(name: str) -> None:
    assert recipes.find_any(name).name == name
