"""The sentence about an error in a recipe: file, line and cause."""

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from serving.settings import ROOT
from training.recipe import Hyperparameters, Recipe

LONGEST = 300  # characters of a cause


class RecipeError(ValueError):
    """A recipe cannot be imported, or is half-written; the message names the file, the line and the cause."""


def unfinished(recipe: Recipe[Any]) -> str:
    """Return what a recipe's class lacks or says wrongly; empty if nothing."""
    kind, task = type(recipe).__name__, getattr(recipe, "task", None)
    own = {"classification": "labels", "regression": "outputs"}
    needed = ("name", "task", "description", "presets", *([own[task]] if task in own else []))
    if missing := [name for name in needed if not getattr(recipe, name, None)]:
        return f"{kind} lacks {', '.join(missing)}"
    if task not in own:
        return f"{kind}'s task is {task!r}; it must be one of {', '.join(own)}"
    if wrong := [name for name, hp in recipe.presets.items() if not isinstance(hp, Hyperparameters)]:
        return f"{kind}'s preset {wrong[0]!r} is no Hyperparameters"
    shapes = [list(spec.shape) for spec in recipe.outputs]
    if task == "regression" and any(shape != [-1] for shape in shapes):
        return (
            f"{kind}'s outputs have the shapes {shapes}; a regression's have the shape [-1], a number a row: "
            "of a vector, name each number"
        )
    return ""


def sentence(error: BaseException, folders: Iterable[str | Path]) -> str:
    """Return file, line and cause of an error: of the last line in a recipe's folder, else of the last one at all.

    Args:
        folders: of the recipes and of the files that they share.
    """
    cause = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(error.filename)}, line {error.lineno or 1}: {type(error).__name__}: {error.msg}"
    frames = _frames(error)
    file, line = (_within(frames, folders) or frames or [("", 0)])[-1]
    return f"{shown(file)}, line {line}: {cause[:LONGEST]}"


def passes(error: BaseException, folders: Iterable[str | Path]) -> bool:
    """Tell whether a line in a recipe's folder led to an error."""
    return bool(_within(_frames(error), folders))


def _frames(error: BaseException) -> list[tuple[str, int]]:
    return [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]


def _within(frames: list[tuple[str, int]], folders: Iterable[str | Path]) -> list[tuple[str, int]]:
    """Return the lines in files of the folders, but those of the module that imports recipes."""
    places = [Path(folder).resolve() for folder in folders]
    files = ((file, line) for file, line in frames if Path(file).name != "__init__.py")
    return [(file, line) for file, line in files if Path(file).resolve().parent in places]


def shown(file: str | Path) -> str:
    """Return a file's path, relative to the checkout where it lies in it."""
    path = Path(file)
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
