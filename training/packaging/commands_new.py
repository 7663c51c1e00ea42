"""The command ``new``: a recipe from data."""

import keyword
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serving.command_line import console, fail, sentence
from serving.documents import write_atomically
from serving.settings import RecipeSettings


class TaskName(StrEnum):
    """The tasks of a recipe."""

    regression = "regression"
    classification = "classification"


def new_command(
    name: Annotated[str, typer.Argument(help="The model's name: letters, digits and _.")],
    csv: Annotated[Path | None, typer.Option(help="Table: CSV of any separator, or .parquet.")] = None,
    target: Annotated[str, typer.Option(help="Column to predict.")] = "",
    task: Annotated[TaskName | None, typer.Option(help="Told by the target where it is not given.")] = None,
    time: Annotated[
        str, typer.Option(help="Column of times: the newest rows are held out. Found where not given; - for at random.")
    ] = "",
    from_image_folder: Annotated[Path | None, typer.Option(help="Pictures, a folder for each class.")] = None,
    from_text_csv: Annotated[Path | None, typer.Option(help="Table with a column of texts.")] = None,
    text: Annotated[str, typer.Option(help="Column of texts.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the recipe of this name.")] = False,
) -> None:
    """Write a recipe that learns from a table, from pictures or from texts, to be trained at once, or edited first.

    It lies in the first folder of MARLOOP_RECIPES, else in training/recipes/.
    """
    from training.data import DataError
    from training.recipe.new.pictures import draft_pictures
    from training.recipe.new.tables import Question, draft_table
    from training.recipe.new.texts import draft_texts

    if sum(map(bool, (csv, from_image_folder, from_text_csv))) != 1:
        fail("give the data by one of --csv, --from-image-folder and --from-text-csv", 2)
    if not target and not from_image_folder:
        fail("--target must name the column to predict", 2)
    if bool(text) != bool(from_text_csv):
        fail("--from-text-csv and --text, the column of texts, belong together", 2)
    question = Question(name, target, task.value if task else None, time)
    try:
        path = destination(name, force)
        if csv:
            draft = draft_table(csv, question, path.parent)
        elif from_text_csv:
            draft = draft_texts(from_text_csv, text, question, path.parent)
        else:
            assert from_image_folder
            draft = draft_pictures(from_image_folder, name, path.parent)
        write_atomically(path, draft.source.encode())
    except (ValueError, KeyError, DataError) as error:
        fail(error)
    except OSError as error:
        fail(f"the recipe could not be written: {sentence(error)}")
    for line in draft.notes:
        console.print(line, markup=False)
    console.print(f"written: {os.path.relpath(path)}, {draft.source.count(chr(10))} lines to edit; next:", markup=False)
    console.print(f"  make train MODEL={name}\n  make up", markup=False)


def destination(name: str, force: bool) -> Path:
    """Return the file of a new recipe.

    Raises:
        ValueError: the name cannot be one, or is another recipe's.
        RecipeError: ``MARLOOP_RECIPES`` names no folder.
    """
    from training import recipes

    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"the name {name!r} must be letters, digits and _, a letter first, and no word of Python")
    recipes.names()  # raises where a folder is none
    folders = RecipeSettings.from_environment(os.environ).folders
    path = (folders[0].resolve() if folders else Path(recipes.__path__[0])) / f"{name}.py"
    existing = recipes.file_of(name) or (path if path.exists() else None)
    if existing and existing != path:
        raise ValueError(f"{name} is the recipe {existing}: choose another name")
    if existing and not force:
        raise ValueError(f"{path} exists: choose another name, or overwrite it by --force")
    if not existing and (hasattr(recipes, name) or recipes.extra(name)):
        raise ValueError(f"the name {name!r} has a meaning of its own here: choose another")
    return path
