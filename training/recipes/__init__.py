"""The recipes, a file for each model. It ends with ``recipe = …``; its name is the model's."""

import importlib
import importlib.metadata
import pkgutil
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

from training.data import DataError, install
from training.language.recipe import LanguageRecipe
from training.recipe import Recipe
from training.recipes._faults import RecipeError, passes, sentence, shown, unfinished

__all__ = ["RecipeError", "check_packages", "explain", "extra", "find", "find_any", "missing", "names", "ready", "told"]
PROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"


def names() -> list[str]:
    """Return the names of all recipes; a file whose name begins with ``_`` is shared by recipes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(name: str) -> Recipe[Any]:
    """Return the recipe of a model that is fitted.

    Raises:
        KeyError: there is no such recipe; the message lists the names.
        RecipeError: its file cannot be imported, or is no whole recipe.
    """
    recipe = find_any(name)
    if isinstance(recipe, LanguageRecipe):
        raise KeyError(
            f"{name} is a language model: it can be trained, which packages it, and not be fitted or changed"
        )
    return recipe


def find_any(name: str) -> Recipe[Any] | LanguageRecipe:
    """Return the recipe of a model, fitted or published.

    Raises:
        KeyError: there is no such recipe; the message lists the names.
        RecipeError: its file cannot be imported, or is no whole recipe.
        DataError: its file imports a package of the recipe's extra that is not installed.
    """
    if name not in names():
        raise KeyError(f"there is no recipe {name!r}; there are {', '.join(names())}")
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        if missing(name):
            raise DataError(missing(name)) from error
        raise RecipeError(explain(error)) from error
    except (Exception, SystemExit) as error:  # a recipe is a program, which may end in any way
        raise RecipeError(explain(error)) from error
    return _recipe_of(module, name)


def _recipe_of(module: ModuleType, name: str) -> Recipe[Any] | LanguageRecipe:
    """Return the recipe of a file.

    Raises:
        RecipeError: it has none, or one that lacks something.
    """
    recipe: object = getattr(module, "recipe", None)
    file = shown(module.__file__ or name)
    if recipe is None:
        raise RecipeError(f"{file} has no `recipe = …`; the name of a file without, which recipes share, begins with _")
    if not isinstance(recipe, Recipe | LanguageRecipe):
        what = f"the class {recipe.__name__}" if isinstance(recipe, type) else f"a {type(recipe).__name__}"
        raise RecipeError(f"{file}: its `recipe` is {what}; it must be an object of a recipe's class: `recipe = Mine()`")
    if isinstance(recipe, Recipe) and (fault := unfinished(recipe)):
        raise RecipeError(f"{file}: {fault}")
    if recipe.name != name:
        raise RecipeError(f"{file}: the recipe's name is {recipe.name!r}; it must be the file's, {name!r}")
    return recipe


def explain(error: BaseException) -> str:
    """Return a sentence about an error: the last line of a recipe that led to it, else the last one of all; the cause."""
    return sentence(error, __path__)


def told(error: Exception) -> Exception:
    """Return an error as it is, or as a ``RecipeError`` with file and line where Python raised it in a recipe."""
    raised_by_python = isinstance(error, KeyError | ValueError) and not isinstance(error, RecipeError)
    return RecipeError(explain(error)) if raised_by_python and passes(error, __path__) else error


def ready(name: str) -> Recipe[Any]:
    """Return the recipe of a model that is fitted and whose packages are installed.

    Raises:
        KeyError: there is no such recipe.
        RecipeError: its file cannot be imported, or is no whole recipe.
        DataError: packages of its extra are not installed; says how to install them.
    """
    recipe = find(name)
    check_packages(name)
    return recipe


def check_packages(name: str) -> None:
    """Check that the packages of the recipe's extra are installed.

    Raises:
        DataError: one is not; says how to install it.
    """
    if message := missing(name):
        raise DataError(message)


def extra(name: str, project: Path | None = None) -> list[str]:
    """Return the packages that only this recipe needs: the project's optional dependencies of its name."""
    path = project or PROJECT
    if not path.exists():  # the packages were copied without the project around them
        return []
    declared = tomllib.loads(path.read_text())["project"].get("optional-dependencies", {})
    return [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in declared.get(name, [])]


def missing(name: str, project: Path | None = None) -> str:
    """Return the remedy where packages of a recipe's extra are not installed; else an empty text."""
    absent = []
    for package in extra(name, project):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            absent.append(package)
    remedy = f"{install(name)}, as `make train MODEL={name}` does"
    return f"{name} needs {', '.join(absent)}: {remedy}" if absent else ""
